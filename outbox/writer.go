package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/outbox/internal/event"
)

// Writer writes events into one outbox table. It holds no connection and is safe for concurrent
// use.
type Writer struct{ box event.Box }

// New returns a Writer for cfg; nil means the defaults. Its error names every fault of cfg.
func New(cfg *Config) (*Writer, error) {
	var c Config
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
// published in that order, once tx has committed. Any number of messages takes one round trip, up
// to 32 MiB or 50,000 of them; more go in several statements. No messages is no error and no round
// trip.
//
// It returns an *InvalidError if a message cannot be published as it is; nothing was sent then,
// and tx can go on. After any other error the transaction is to be rolled back, or the savepoint
// that tx is. A tx that is over gives pgx.ErrTxClosed.
func (w *Writer) Insert(ctx context.Context, tx pgx.Tx, messages ...Message) ([]uuid.UUID, error) {
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

// write sends one statement. The arguments are text and bytea only, which every query mode of pgx
// sends without asking the server for types.
func (w *Writer) write(ctx context.Context, tx pgx.Tx, c event.Columns) (err error) {
	named := c.Topics != nil
	if len(c.IDs) == 1 {
		args := []any{c.IDs[0], c.AggregateTypes[0], c.AggregateIDs[0], c.Types[0], c.Payloads[0], c.Headers[0]}
		if named {
			args = append(args, c.Topics[0])
		}
		_, err = tx.Exec(ctx, w.box.One(named), args...)
		return err
	}
	args := []any{c.IDs, c.AggregateTypes, c.AggregateIDs, c.Types, c.Payloads, c.Headers}
	if named {
		args = append(args, c.Topics)
	}
	_, err = tx.Exec(ctx, w.box.Many(named), args...)
	return err
}

// LockAggregate locks the aggregate until tx ends, and waits while another transaction has it. It
// is for writers that have no row of the aggregate to lock; call it before the insert, and before
// anything is read that the event depends on. Writers that lock several aggregates must lock them
// in the same order, or two of them can wait for each other.
//
// It returns an *InvalidError if the aggregate could have no events.
func (w *Writer) LockAggregate(ctx context.Context, tx pgx.Tx, aggregateType, aggregateID string) error {
	if tx == nil {
		return errNoTx
	}
	if err := invalid(event.CheckAggregate(aggregateType, aggregateID)); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, w.box.Lock, aggregateType, aggregateID); err != nil {
		return fmt.Errorf("outbox: lock aggregate: %w", err)
	}
	return nil
}

var errNoTx = errors.New("outbox: the transaction is nil")

func invalid(faults []event.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	e := &InvalidError{Faults: make([]Fault, len(faults))}
	for i, f := range faults {
		e.Faults[i] = Fault(f)
	}
	return e
}
