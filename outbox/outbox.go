package outbox

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// standard is the Writer with the defaults.
var standard = func() *Writer {
	w, err := New(nil)
	if err != nil {
		panic(fmt.Sprintf("the defaults of package outbox: %v", err)) // a constant fault, which every test would find
	}
	return w
}()

// Insert writes the messages in tx with the defaults of Config; see Writer.Insert.
func Insert(ctx context.Context, tx pgx.Tx, messages ...Message) ([]uuid.UUID, error) {
	return standard.Insert(ctx, tx, messages...)
}

// LockAggregate locks the aggregate until tx ends, with the defaults of Config; see
// Writer.LockAggregate.
func LockAggregate(ctx context.Context, tx pgx.Tx, aggregateType, aggregateID string) error {
	return standard.LockAggregate(ctx, tx, aggregateType, aggregateID)
}
