package relay

import (
	"fmt"
)

// rowError is a fault of one row: Kafka or the relay refuses it however often it is tried.
type rowError struct {
	id    int64
	msgID string
	topic string
	err   error
}

func (e *rowError) Error() string {
	return fmt.Sprintf("row id %d (msg_id %s, topic %q) cannot be sent: %v", e.id, e.msgID, e.topic, e.err)
}

func (e *rowError) Unwrap() error { return e.err }
