package inbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// mostID bounds the bytes of a message's id, which is kept with a parked message.
const mostID = 1024

// Message is one message as it came from a topic or from anywhere else.
type Message struct {
	// ID is the identity of the message among those of its Source, as its sender gave it: header msg_id of the relay. Any text
	// will do; a UUIDv7 is kept best. At most 1,024 bytes, valid UTF-8. Required.
	ID string

	// Source is who sent the message: header source of the relay. Ids of two sources have nothing to do with one another. At
	// most 255 bytes, valid UTF-8. Required.
	Source string

	// Topic and Key say which messages stay in order: those of one key of one topic. The topic may be empty where there is
	// none. A nil key means that the message stands alone; an empty one that is not nil is a key like any other.
	Topic string
	Key   []byte

	// Partition and Offset are where the record was; they are kept with a parked message. For a message that came from no
	// topic set Offset to -1, or leave both.
	Partition int32
	Offset    int64

	// Time is the time of the record; zero where there is none.
	Time time.Time

	// Type is the type of the event, header type of the relay; it may be empty.
	Type string

	// Payload is the value of the record. Nil is a tombstone.
	Payload []byte

	// Headers are all headers of the record in their order.
	Headers []Header
}

// Header is one header of a record. A name may occur twice.
type Header struct {
	Name  string
	Value []byte
}

// Header returns the value of the last header of that name, and whether there is one: the last one wins in Kafka's own clients.
func (m Message) Header(name string) (value []byte, found bool) {
	for i := len(m.Headers) - 1; i >= 0; i-- {
		if m.Headers[i].Name == name {
			return m.Headers[i].Value, true
		}
	}
	return nil, false
}

// identity is what a message is marked by.
type identity struct {
	source string
	key    uuid.UUID
}

func (m Message) identity() identity { return identity{m.Source, MarkID(m.ID)} }

// check returns ErrInvalid with every fault of a message that could have no mark.
func (m Message) check() error {
	var faults []error
	switch {
	case m.ID == "":
		faults = append(faults, errors.New("ID is empty"))
	case len(m.ID) > mostID:
		faults = append(faults, fmt.Errorf("ID has %d bytes; at most %d are allowed", len(m.ID), mostID))
	default:
		faults = append(faults, textFault("ID", m.ID))
	}
	if reason := checkName(m.Source); reason != "" {
		faults = append(faults, errors.New("Source "+reason))
	}
	faults = append(faults, textFault("Topic", m.Topic), textFault("Type", m.Type))
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func textFault(field, text string) error {
	if reason := checkText(text); reason != "" {
		return fmt.Errorf("%s %s", field, reason)
	}
	return nil
}
