// Package identity makes messages of records: who sent it, its id, and what stands for those if a
// record says neither.
package identity

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// The headers that Relay and Debezium read.
const (
	headerMsgID      = "msg_id"
	headerSource     = "source"
	headerType       = "type"
	headerDebeziumID = "id"
)

// Relay makes a message of a record of the relay: the id from the header msg_id, the source from
// the header source.
func Relay(r *kgo.Record) (inbox.Message, error) {
	m := message(r)
	return identified(m, headerValue(m, headerMsgID), headerMsgID, headerValue(m, headerSource), headerSource)
}

// Debezium makes a message of a record of Debezium's outbox event router: the id from the header
// id. The topic is the source, because those records name none.
func Debezium(r *kgo.Record) (inbox.Message, error) {
	m := message(r)
	return identified(m, headerValue(m, headerDebeziumID), headerDebeziumID, r.Topic, "")
}

// message is a record without an identity.
func message(r *kgo.Record) inbox.Message {
	m := inbox.Message{
		Topic: r.Topic, Key: r.Key, Partition: r.Partition, Offset: r.Offset, Time: r.Timestamp, Payload: r.Value,
	}
	if len(r.Headers) > 0 {
		m.Headers = make([]inbox.Header, len(r.Headers))
		for i, h := range r.Headers {
			m.Headers[i] = inbox.Header{Name: h.Key, Value: h.Value}
		}
	}
	m.Type = headerValue(m, headerType)
	return m
}

func headerValue(m inbox.Message, name string) string {
	value, _ := m.Header(name)
	return string(value)
}

func identified(m inbox.Message, id, idHeader, source, sourceHeader string) (inbox.Message, error) {
	m.ID, m.Source = id, source
	var faults []error
	if id == "" {
		faults = append(faults, fmt.Errorf("the record has no header %s", idHeader))
	}
	if source == "" {
		faults = append(faults, fmt.Errorf("the record has no header %s", sourceHeader))
	}
	return m, errors.Join(faults...)
}

// The limits of what can be marked; see inbox.Message.
const (
	mostID     = 1024
	mostSource = 255
)

// Of calls the function of the configuration, and checks what it returns: what could not be
// marked has no identity. Position, order and time are always those of the record.
func Of(r *kgo.Record, call func(*kgo.Record) (inbox.Message, error)) (m inbox.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = unidentified(r), fmt.Errorf("identify the record: panic: %v", p)
		}
	}()
	m, err = call(r)
	if err == nil {
		err = errors.Join(fault("id", m.ID, mostID), fault("source", m.Source, mostSource), storable("type", m.Type))
	}
	if err != nil {
		return unidentified(r), fmt.Errorf("identify the record: %w", err)
	}
	m.Topic, m.Key, m.Partition, m.Offset, m.Time = r.Topic, r.Key, r.Partition, r.Offset, r.Timestamp
	return m, nil
}

// unidentified is a record under the only name that it has for sure: its place.
func unidentified(r *kgo.Record) inbox.Message {
	m := message(r)
	m.Source, m.ID = Place(m)
	if storable("type", m.Type) != nil {
		m.Type = ""
	}
	return m
}

// Place is the source and the id of a record that has no others. The time tells it from the
// record that had its place before the topic was deleted and made again, or its log cut back: that
// one has a mark, and this one must not pass for its copy.
func Place(m inbox.Message) (source, id string) {
	return fmt.Sprintf("%s:%d", m.Topic, m.Partition), fmt.Sprintf("%d@%d", m.Offset, m.Time.UnixMilli())
}

func fault(what, text string, most int) error {
	switch {
	case text == "":
		return fmt.Errorf("its %s is empty", what)
	case len(text) > most:
		return fmt.Errorf("its %s has %d bytes; at most %d are allowed", what, len(text), most)
	}
	return storable(what, text)
}

// storable returns why Postgres cannot store a text.
func storable(what, text string) error {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return fmt.Errorf("its %s is not valid UTF-8, or holds a zero byte", what)
	}
	return nil
}
