package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/outbox"
)

const aggregateType = "account"

// entry is an event of an account with the id of its message.
type entry = ledger.Entry[uuid.UUID]

// transaction is the plan of one business transaction.
type transaction struct {
	accounts []string // the aggregates, in the order in which they are taken
	events   int      // to commit, at least one an account

	late              bool          // takes its transaction id first and the aggregates last
	savepoint         bool          // writes a part of its events behind a savepoint
	rollBackSavepoint bool          // and more events behind another one, which is rolled back
	rollBack          bool          // is rolled back as a whole
	open              time.Duration // stays open that long, others commit meanwhile
}

// body is the payload of an event. Together with the key it says what the consumer checks.
type body struct {
	Account  string `json:"account"`
	Version  int64  `json:"version"`
	Receiver string `json:"receiver"`
	Cents    int64  `json:"cents"`
	Order    int64  `json:"order"`
	Memo     string `json:"memo"`
}

const memo = "booked by the demo; every event of an account has the next version of that account"

// run executes the plan and enters the outcome in the ledger.
func (w *writer) run(ctx context.Context, t transaction) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	written, undone, err := w.execute(ctx, tx, t)
	if err != nil {
		return errors.Join(err, rollBack(tx))
	}
	if t.rollBack {
		if err := tx.Rollback(ctx); err != nil {
			return fmt.Errorf("roll back: %w", err)
		}
		w.ledger.RollBack(append(written, undone...))
		return nil
	}
	if err := tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	w.ledger.Commit(written)
	if len(undone) > 0 {
		w.ledger.RollBack(undone)
	}
	return nil
}

// rollBack ends a transaction that failed, even if the demo was interrupted.
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
func (w *writer) execute(ctx context.Context, tx pgx.Tx, t transaction) (written, undone []entry, err error) {
	if t.late {
		if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
			return nil, nil, fmt.Errorf("take the transaction id: %w", err)
		}
	}
	var order int64
	err = tx.QueryRow(ctx, "INSERT INTO orders (account, events) VALUES ($1, $2) RETURNING id", t.accounts[0], t.events).Scan(&order)
	if err != nil {
		return nil, nil, fmt.Errorf("insert order: %w", err)
	}
	if t.late {
		if err := pause(ctx, t.open); err != nil {
			return nil, nil, err
		}
	}
	for i, account := range t.accounts {
		more, gone, err := w.book(ctx, tx, t, order, account, share(t.events, len(t.accounts), i))
		if err != nil {
			return nil, nil, err
		}
		written, undone = append(written, more...), append(undone, gone...)
	}
	if !t.late {
		err = pause(ctx, t.open)
	}
	return written, undone, err
}

// share divides events among accounts.
func share(events, accounts, i int) int {
	return events*(i+1)/accounts - events*i/accounts
}

// book writes the events of one account, if the plan says so in two parts, the second behind a
// savepoint.
func (w *writer) book(
	ctx context.Context, tx pgx.Tx, t transaction, order int64, account string, events int,
) (written, undone []entry, err error) {
	if !t.savepoint {
		written, err = w.insert(ctx, tx, order, account, events)
		return written, nil, err
	}
	if t.rollBackSavepoint {
		undone, err = w.inSavepoint(ctx, tx, false, order, account, 1+events/4)
		if err != nil {
			return nil, nil, err
		}
	}
	outside := events / 2
	if outside > 0 {
		written, err = w.insert(ctx, tx, order, account, outside)
		if err != nil {
			return nil, nil, err
		}
	}
	inside, err := w.inSavepoint(ctx, tx, true, order, account, events-outside)
	return append(written, inside...), undone, err
}

func (w *writer) inSavepoint(ctx context.Context, tx pgx.Tx, keep bool, order int64, account string, events int) ([]entry, error) {
	savepoint, err := tx.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("set savepoint: %w", err)
	}
	written, err := w.insert(ctx, savepoint, order, account, events)
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

// insert takes the account, which gives its events their versions, and writes them to the outbox.
func (w *writer) insert(ctx context.Context, tx pgx.Tx, order int64, account string, events int) ([]entry, error) {
	var last int64
	err := tx.QueryRow(ctx, "UPDATE accounts SET version = version + $2, balance = balance + $2 WHERE id = $1 RETURNING version",
		account, events).Scan(&last)
	if err != nil {
		return nil, fmt.Errorf("take %s: %w", account, err)
	}
	messages, entries := make([]outbox.Message, events), make([]entry, events)
	for i := range events {
		version := last - int64(events) + int64(i) + 1
		payload, err := json.Marshal(body{account, version, w.receiver(account), 1 + w.random.Int64N(10_000), order, memo})
		if err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
		messages[i] = outbox.Message{AggregateType: aggregateType, AggregateID: account, Type: "AmountBooked", Payload: payload}
		entries[i].Event = ledger.Event{Aggregate: account, Version: version}
	}
	ids, err := outbox.Insert(ctx, tx, messages...)
	if err != nil {
		return nil, fmt.Errorf("insert events: %w", err)
	}
	for i, id := range ids {
		entries[i].ID = id
	}
	return entries, nil
}

// receiver draws the account that the consumer moves the money to.
func (w *writer) receiver(from string) string {
	for {
		if to := accountName(w.random.IntN(sharedAccounts)); to != from {
			return to
		}
	}
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
