package outboxsql

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/outbox"
)

// standard is the Writer with the defaults.
var standard = func() *Writer {
	w, err := New(nil)
	if err != nil {
		panic(fmt.Sprintf("the defaults of package outbox: %v", err)) // a constant fault, which every test would find
	}
	return w
}()

// Insert writes the messages in tx with the defaults of outbox.Config; see Writer.Insert.
func Insert(ctx context.Context, tx *sql.Tx, messages ...outbox.Message) ([]uuid.UUID, error) {
	return standard.Insert(ctx, tx, messages...)
}

// LockAggregate locks the aggregate until tx ends, with the defaults of outbox.Config; see
// Writer.LockAggregate.
func LockAggregate(ctx context.Context, tx *sql.Tx, aggregateType, aggregateID string) error {
	return standard.LockAggregate(ctx, tx, aggregateType, aggregateID)
}
