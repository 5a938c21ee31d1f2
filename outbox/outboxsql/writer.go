package outboxsql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/internal/event"
)

// Writer writes events into one outbox table. It holds no connection and is safe for concurrent
// use.
type Writer struct{ box event.Box }

// New returns a Writer for cfg; nil means the defaults. Its error names every fault of cfg.
func New(cfg *outbox.Config) (*Writer, error) {
	var c outbox.Config
	if cfg != nil {
		c = *cfg
	}
	c = c.WithDefaults()
	box, err := event.NewBox(c.Table, event.Rules{MaxBytes: c.MaxBytes, Route: c.Route})
	if err != nil {
		return nil, err
	}
	return &Writer{box}, nil
}

// Insert writes the messages in tx, and returns their ids in the order of the arguments. They are
// published in that order, once tx has committed. Any number of messages takes one statement, up to
// 32 MiB or 50,000 of them; more go in several. No messages is no error and no round trip.
//
// It returns an *outbox.InvalidError if a message cannot be published as it is; nothing was sent
// then, and tx can go on. After any other error the transaction is to be rolled back. A tx that is
// over gives sql.ErrTxDone.
func (w *Writer) Insert(ctx context.Context, tx *sql.Tx, messages ...outbox.Message) ([]uuid.UUID, error) {
	if tx == nil {
		return nil, errNoTx
	}
	if len(messages) == 0 {
		return nil, nil
	}
	events := make([]event.Message, len(messages))
	for i, m := range messages {
		events[i] = event.Message(m)
	}
	if err := invalid(event.Check(w.box.Rules, events)); err != nil {
		return nil, err
	}
	ids, err := event.Identities(events)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	for columns, err := range event.Statements(events, ids) {
		if err != nil {
			return nil, fmt.Errorf("outbox: %w", err)
		}
		if err := w.write(ctx, tx, columns); err != nil {
			return nil, fmt.Errorf("outbox: insert %d messages: %w", len(columns.IDs), err)
		}
	}
	return ids, nil
}

// write sends one statement.
func (w *Writer) write(ctx context.Context, tx *sql.Tx, c event.Columns) (err error) {
	named := c.Topics != nil
	if len(c.IDs) == 1 {
		var payload any // a nil slice is no NULL to every driver
		if c.Payloads[0] != nil {
			payload = c.Payloads[0]
		}
		args := []any{c.IDs[0], c.AggregateTypes[0], c.AggregateIDs[0], c.Types[0], payload, c.Headers[0]}
		if named {
			args = append(args, c.Topics[0])
		}
		_, err = tx.ExecContext(ctx, w.box.One(named), args...)
		return err
	}
	args := []any{textArray(c.IDs), textArray(c.AggregateTypes), textArray(c.AggregateIDs), textArray(c.Types),
		byteaArray(c.Payloads), nullableArray(c.Headers)}
	if named {
		args = append(args, nullableArray(c.Topics))
	}
	_, err = tx.ExecContext(ctx, w.box.Many(named), args...)
	return err
}

// LockAggregate locks the aggregate until tx ends, and waits while another transaction has it; see
// outbox.Writer.LockAggregate for when to call it.
func (w *Writer) LockAggregate(ctx context.Context, tx *sql.Tx, aggregateType, aggregateID string) error {
	if tx == nil {
		return errNoTx
	}
	if err := invalid(event.CheckAggregate(aggregateType, aggregateID)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, w.box.Lock, aggregateType, aggregateID); err != nil {
		return fmt.Errorf("outbox: lock aggregate: %w", err)
	}
	return nil
}

var errNoTx = errors.New("outbox: the transaction is nil")

func invalid(faults []event.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	e := &outbox.InvalidError{Faults: make([]outbox.Fault, len(faults))}
	for i, f := range faults {
		e.Faults[i] = outbox.Fault(f)
	}
	return e
}
