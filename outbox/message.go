package outbox

import "github.com/google/uuid"

// Message is one event.
type Message struct {
	// ID is the identity of the message, header msg_id on the record. Consumers that deduplicate
	// drop a second message with the same ID. Defaults to a new UUIDv7; Insert returns it.
	ID uuid.UUID

	// AggregateType is the kind of the aggregate, such as "order". It chooses the topic where Topic
	// is empty. At most 255 bytes. Required.
	AggregateType string

	// AggregateID is the identity of the aggregate, and the key of the record: events of one
	// aggregate stay in order. At most 1,024 bytes. Required.
	AggregateID string

	// Type is the type of the event, such as "OrderPaid"; header type on the record. At most 255
	// bytes. Required.
	Type string

	// Topic is the topic to publish to, one that the setting topics.allow of the relay lists; the
	// role needs INSERT on the column. At most 249 bytes. Defaults to the route of the relay, by
	// default "outbox.event." and AggregateType.
	Topic string

	// Payload is the value of the record, byte for byte. Nil is a tombstone, which removes the key
	// from a compacted topic; an empty slice that is not nil is an empty value.
	Payload []byte

	// Headers are further headers of the record, such as content-type, traceparent and tracestate.
	// The names msg_id, source, type, aggregate_type and created_at are the relay's own and
	// refused. At most 1,000, with names of at most 255 bytes, and 65,536 bytes as JSON.
	Headers map[string]string
}
