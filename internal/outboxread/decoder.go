package outboxread

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/brief"
	"github.com/outbox-relay/relay/internal/topicname"
)

// Decoder turns rows into records. Types, topics and aggregate types repeat, so their strings are
// made once.
type Decoder struct {
	route       string
	allowed     []string // patterns of topics that a row may name
	source      []byte
	contentType []byte
	strings     map[string]internedString
	routes      map[string]destination // by aggregate type
	named       map[string]destination // by the column topic
	own         []ownHeader            // of the row in hand
}

// destination is a topic, and why no row can go there.
type destination struct {
	topic string
	fault error
}

type internedString struct {
	text  string
	bytes []byte
}

// maxInterned and longestInterned bound the strings remembered: a writer may put an identity into a
// type, or a book.
const (
	maxInterned     = 10_000
	longestInterned = 256
)

// RecordOptions say what records are made of rows.
type RecordOptions struct {
	// Source is the header source: the name of the deployment.
	Source string
	// Route is the topic of a row that names none; {aggregate_type} stands for that column.
	Route string
	// Allowed lists the topics that a row may name; if it is empty, those that Route makes.
	Allowed []string
	// ContentType is the header of a row that has none.
	ContentType string
}

// NewDecoder returns a Decoder; one goroutine may use it.
func NewDecoder(o RecordOptions) *Decoder {
	return &Decoder{
		route: o.Route, allowed: topicname.Allowed(o.Allowed, o.Route), source: []byte(o.Source), contentType: []byte(o.ContentType),
		strings: make(map[string]internedString), routes: make(map[string]destination), named: make(map[string]destination),
	}
}

func (d *Decoder) intern(b []byte) internedString {
	if s, ok := d.strings[string(b)]; ok {
		return s
	}
	s := internedString{text: string(b)}
	s.bytes = []byte(s.text)
	remember(d.strings, s.text, s)
	return s
}

// remember keeps a value that was made for a string of a row, unless the string is long.
func remember[T any](in map[string]T, key string, value T) {
	if len(key) > longestInterned {
		return
	}
	if len(in) >= maxInterned {
		clear(in)
	}
	in[key] = value
}

// Routed returns the topic of an aggregate type.
func (d *Decoder) Routed(aggregateType string) string { return d.routeOf(aggregateType).topic }

// routeOf returns where rows of an aggregate type go that name no topic.
func (d *Decoder) routeOf(aggregateType string) destination {
	if to, ok := d.routes[aggregateType]; ok {
		return to
	}
	to := destination{topic: topicname.OfRoute(d.route, aggregateType)}
	to.fault = topicname.Check(to.topic)
	if to.fault == nil && topicname.Reserved(to.topic) {
		to.fault = topicname.ErrReserved
	}
	to.topic = brief.Cut(to.topic, longestInterned)
	remember(d.routes, aggregateType, to)
	return to
}

// namedBy returns where a row goes that names a topic.
func (d *Decoder) namedBy(column []byte) destination {
	if to, ok := d.named[string(column)]; ok {
		return to
	}
	topic := string(column)
	to := destination{brief.Cut(topic, longestInterned), topicname.CheckNamed(topic, d.allowed)}
	remember(d.named, topic, to)
	return to
}

// errShape says that a row did not have the columns or widths that the query names.
var errShape = errors.New("unexpected shape of a row; is the table an outbox of this version? Run relay migrate status")

// add appends a row. A row that can never be sent is among the faults of the page.
func (d *Decoder) add(p *Page, values [][]byte) error {
	if len(values) < columns || len(values[colID]) != 8 || len(values[colMsgID]) != 16 || len(values[colCreatedAt]) != 8 {
		return errShape
	}
	id := int64(binary.BigEndian.Uint64(values[colID]))
	aggregateType := d.intern(values[colAggregateType])
	var to destination
	if values[colTopic] != nil {
		to = d.namedBy(values[colTopic])
	} else {
		to = d.routeOf(aggregateType.text)
	}
	fault := to.fault
	var own []ownHeader
	var contentType []byte
	if fault == nil {
		own, contentType, fault = d.ownHeaders(values[colHeaders])
	}
	created := pgTime(values[colCreatedAt])
	record := kgo.Record{Topic: to.topic, Key: p.keep(values[colAggregateID])}
	if fault == nil {
		record.Value = p.keep(values[colPayload])
	} else {
		own, contentType = nil, nil
		p.Faults = append(p.Faults, Fault{len(p.Records), fault})
	}
	record.Headers = d.headers(p, values, aggregateType, created, own, contentType)
	size := RecordBytes(&record)
	p.Bytes += size
	if large := values[colLarge]; len(large) == 4 && fault == nil {
		unread := int(binary.BigEndian.Uint32(large))
		p.large = append(p.large, largeRow{len(p.Records), unread})
		size += unread
	}
	p.Largest = max(p.Largest, size)
	p.Records = append(p.Records, record)
	p.IDs, p.Created = append(p.IDs, id), append(p.Created, created.UnixMicro())
	if p.Oldest.IsZero() || created.Before(p.Oldest) {
		p.Oldest = created
	}
	return nil
}

func (d *Decoder) headers(
	p *Page, values [][]byte, aggregateType internedString, created time.Time, own []ownHeader, contentType []byte,
) []kgo.RecordHeader {
	if contentType == nil {
		contentType = d.contentType
	} else {
		contentType = p.keep(contentType)
	}
	start := p.reserve(36 + len(time.RFC3339Nano))
	p.arena = appendUUID(p.arena, values[colMsgID])
	msgID := p.arena[start:len(p.arena):len(p.arena)]
	start = len(p.arena)
	p.arena = created.AppendFormat(p.arena, time.RFC3339Nano)
	createdAt := p.arena[start:len(p.arena):len(p.arena)]

	headers := p.keepHeaders(ownHeaders + len(own))
	headers[placeMsgID] = kgo.RecordHeader{Key: HeaderMsgID, Value: msgID}
	headers[1] = kgo.RecordHeader{Key: headerSource, Value: d.source}
	headers[2] = kgo.RecordHeader{Key: headerType, Value: d.intern(values[colType]).bytes}
	headers[placeAggregateType] = kgo.RecordHeader{Key: headerAggregateType, Value: aggregateType.bytes}
	headers[4] = kgo.RecordHeader{Key: headerContentType, Value: contentType}
	headers[5] = kgo.RecordHeader{Key: headerCreatedAt, Value: createdAt}
	for i, h := range own {
		headers[ownHeaders+i] = kgo.RecordHeader{Key: h.name, Value: p.keep(h.value)}
	}
	return headers
}

// decodeHeaders reads the headers column: jsonb in binary format is a version byte and the text.
// Values must be strings; numbers and booleans are taken by their JSON text.
func decodeHeaders(b []byte) (map[string]string, error) {
	if len(b) == 0 || b[0] != 1 {
		return nil, fmt.Errorf("headers: unknown version of jsonb")
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b[1:], &raw); err != nil {
		return nil, fmt.Errorf("headers: not a JSON object: %w", err)
	}
	headers := make(map[string]string, len(raw))
	for name, value := range raw {
		switch {
		case name == "":
			return nil, errors.New("headers: a name is empty")
		case value[0] == '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, fmt.Errorf("headers: %q: %w", name, err)
			}
			headers[name] = text
		case value[0] == '{' || value[0] == '[' || value[0] == 'n':
			return nil, fmt.Errorf("headers: the value of %q is neither a string nor a number nor a boolean", name)
		default:
			headers[name] = string(value)
		}
	}
	return headers, nil
}
