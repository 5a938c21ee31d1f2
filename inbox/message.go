package inbox

import (
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Message is one message as it came from a topic or from anywhere else.
type Message struct {
	// ID is the identity of the message among those of its Source, as its sender gave it: header
	// msg_id of the relay. Any text will do; a UUIDv7 is kept best. At most 1,024 bytes, valid UTF-8.
	// Required.
	ID string

	// Source is who sent the message: header source of the relay. Ids of two sources have nothing to
	// do with one another. At most 255 bytes, valid UTF-8. Required.
	Source string

	// Topic and Key say which messages stay in order: those of one key of one topic. The topic may be
	// empty if there is none. A nil key means that the message stands alone; an empty one that is not
	// nil is a key like any other.
	Topic string
	Key   []byte

	// Partition and Offset are where the record was; they are kept with a parked message. For a
	// message that came from no topic set Offset to -1, or leave both.
	Partition int32
	Offset    int64

	// Time is the time of the record; zero if there is none.
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

// Header returns the value of the last header of that name, and whether there is one: the last one
// wins in Kafka's own clients.
func (m Message) Header(name string) (value []byte, found bool) {
	for i := len(m.Headers) - 1; i >= 0; i-- {
		if m.Headers[i].Name == name {
			return m.Headers[i].Value, true
		}
	}
	return nil, false
}

func (m Message) identity() ledger.Identity { return ledger.Identify(m.Source, m.ID) }

func (m Message) subject(id ledger.Identity) ledger.Subject {
	return ledger.Subject{
		Identity: id, ID: m.ID, Topic: m.Topic, Type: m.Type, Key: m.Key, Partition: m.Partition, Offset: m.Offset,
	}
}

// check returns ErrInvalid with every fault of a message that could have no mark.
func (m Message) check() error { return ledger.Check(m.ID, m.Source, m.Topic, m.Type) }

// MarkID returns the id under which a message is in the tables, for queries of your own on
// inbox and inbox_claims; the SQL function inbox_key does the same. A UUIDv7 is kept as it is. Any
// other text is hashed (SHA-256) into a UUID of version 8 (RFC 9562) whose first bit is set, so
// that it is in no range of time. A UUID of another version is the same in upper and lower case.
func MarkID(id string) uuid.UUID { return tables.MarkID(id) }
