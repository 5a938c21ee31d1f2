package event

import (
	"fmt"

	"github.com/google/uuid"
)

// Message has the fields of outbox.Message, which converts to it.
type Message struct {
	ID            uuid.UUID
	AggregateType string
	AggregateID   string
	Type          string
	Topic         string
	Payload       []byte
	Headers       map[string]string
}

// size is what the message adds to a record, as Rules.MaxBytes counts it: key, value and headers.
// Of the headers that the relay adds itself, those of a length that the writer chooses.
func (m *Message) size() int {
	n := len(m.AggregateID) + len(m.Payload) + len(m.Type) + len(m.AggregateType)
	for name, value := range m.Headers {
		n += len(name) + len(value)
	}
	return n
}

// Identities returns the id of each message, and a new UUIDv7 if it is zero. The new ones rise
// in the order of the messages, and within this process.
func Identities(messages []Message) ([]uuid.UUID, error) {
	ids := make([]uuid.UUID, len(messages))
	for i := range messages {
		ids[i] = messages[i].ID
		if ids[i] != uuid.Nil {
			continue
		}
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make a message id: %w", err)
		}
		ids[i] = id
	}
	return ids, nil
}
