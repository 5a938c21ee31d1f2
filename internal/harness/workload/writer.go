package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/outbox"
)

// Table is what the transactions change besides the outbox.
const Table = `
CREATE TABLE account (id text PRIMARY KEY, version bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50);
`

// AggregateType is that of the events; an account is an aggregate.
const AggregateType = "account"

// Entry is an event of an account with the id of its message.
type Entry = ledger.Entry[uuid.UUID]

// Plan says how one transaction goes.
type Plan struct {
	Accounts []string // in the order in which they are locked, which should be the same everywhere
	Events   int      // that are committed, at least one an account

	LateCommit      bool          // is reported before it is on disk: a crash of Postgres may undo it
	LateAccounts    bool          // takes its transaction id first and locks the accounts last
	Savepoint       bool          // writes a part of its events behind a savepoint
	UndoneSavepoint bool          // and more events behind another one, which is rolled back
	RollBack        bool          // is rolled back as a whole
	Open            time.Duration // stays open that long, while others commit
}

// Writer runs transactions on a connection.
type Writer struct {
	Conn *pgx.Conn
	// Payload is what an event contains.
	Payload func(ledger.Event) ([]byte, error)
	// Insert writes messages to the outbox, in the transaction that changes their account. Unset,
	// outbox.Insert does.
	Insert func(context.Context, pgx.Tx, ...outbox.Message) ([]uuid.UUID, error)
}

// Run runs one transaction. It returns the events that were committed, and those that were rolled
// back with the transaction or with a savepoint.
func (w *Writer) Run(ctx context.Context, p Plan) (committed, undone []Entry, err error) {
	tx, err := w.Conn.Begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	committed, undone, err = w.execute(ctx, tx, p)
	if err != nil {
		return nil, nil, errors.Join(err, rollBack(tx))
	}
	if p.RollBack {
		if err := tx.Rollback(ctx); err != nil {
			return nil, nil, fmt.Errorf("roll back: %w", err)
		}
		return nil, append(committed, undone...), nil
	}
	if err := tx.Commit(ctx); err != nil {
		return nil, nil, fmt.Errorf("commit: %w", err)
	}
	return committed, undone, nil
}

// rollBack ends a transaction that failed, even if the caller's context has ended.
func rollBack(tx pgx.Tx) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := tx.Rollback(ctx)
	if errors.Is(err, pgx.ErrTxClosed) { // an interrupted query has closed the connection, and ended the transaction with it
		return nil
	}
	return err
}

// execute does all but the end of the transaction. It returns the events that stand and those
// behind a savepoint that was rolled back.
func (w *Writer) execute(ctx context.Context, tx pgx.Tx, p Plan) (written, undone []Entry, err error) {
	if p.LateCommit {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
			return nil, nil, fmt.Errorf("set synchronous_commit: %w", err)
		}
	}
	if p.LateAccounts {
		if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
			return nil, nil, fmt.Errorf("take the transaction id: %w", err)
		}
		if err := pause(ctx, p.Open); err != nil {
			return nil, nil, err
		}
	}
	for i, account := range p.Accounts {
		more, gone, err := w.book(ctx, tx, p, account, share(p.Events, len(p.Accounts), i))
		if err != nil {
			return nil, nil, err
		}
		written, undone = append(written, more...), append(undone, gone...)
	}
	if !p.LateAccounts {
		err = pause(ctx, p.Open)
	}
	return written, undone, err
}

// share divides events among accounts.
func share(events, accounts, i int) int {
	return events*(i+1)/accounts - events*i/accounts
}

// book writes the events of one account, if the plan says so in two parts, the second behind a
// savepoint.
func (w *Writer) book(ctx context.Context, tx pgx.Tx, p Plan, account string, events int) (written, undone []Entry, err error) {
	if !p.Savepoint {
		written, err = w.insert(ctx, tx, account, events)
		return written, nil, err
	}
	if p.UndoneSavepoint {
		undone, err = w.inSavepoint(ctx, tx, false, account, 1+events/4)
		if err != nil {
			return nil, nil, err
		}
	}
	outside := events / 2
	if outside > 0 {
		written, err = w.insert(ctx, tx, account, outside)
		if err != nil {
			return nil, nil, err
		}
	}
	inside, err := w.inSavepoint(ctx, tx, true, account, events-outside)
	return append(written, inside...), undone, err
}

func (w *Writer) inSavepoint(ctx context.Context, tx pgx.Tx, keep bool, account string, events int) ([]Entry, error) {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	written, err := w.insert(ctx, savepoint, account, events)
	if err != nil {
		return nil, err // the transaction is rolled back as a whole
	}
	end := savepoint.Rollback
	if keep {
		end = savepoint.Commit
	}
	if err := end(ctx); err != nil {
		return nil, fmt.Errorf("end savepoint: %w", err)
	}
	return written, nil
}

// insert locks the account, which gives its events their versions, and writes them to the outbox.
func (w *Writer) insert(ctx context.Context, tx pgx.Tx, account string, events int) ([]Entry, error) {
	var last int64
	err := tx.QueryRow(ctx, "UPDATE account SET version = version + $2 WHERE id = $1 RETURNING version", account, events).Scan(&last)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", account, err)
	}
	messages, entries := make([]outbox.Message, events), make([]Entry, events)
	for i := range events {
		entries[i].Event = ledger.Event{Aggregate: account, Version: last - int64(events) + int64(i) + 1}
		payload, err := w.Payload(entries[i].Event)
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		messages[i] = outbox.Message{AggregateType: AggregateType, AggregateID: account, Type: "Changed", Payload: payload}
	}
	insert := w.Insert
	if insert == nil {
		insert = func(ctx context.Context, tx pgx.Tx, messages ...outbox.Message) ([]uuid.UUID, error) {
			return outbox.Insert(ctx, tx, messages...)
		}
	}
	ids, err := insert(ctx, tx, messages...)
	if err != nil {
		return nil, fmt.Errorf("insert events: %w", err)
	}
	for i, id := range ids {
		entries[i].ID = id
	}
	return entries, nil
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
