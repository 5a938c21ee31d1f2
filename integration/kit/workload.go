package kit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/outbox"
)

// Workload writes events as a service would: every transaction changes a business row, the account,
// and tells of it in the outbox. The account's version counts its changes under its row lock, so
// the version is the order in which transactions locked the aggregate. The ledger is written in the
// same transaction: it is the truth that the topics are compared with, even if the answer to a
// COMMIT was lost.
type Workload struct {
	URL      string
	Accounts int
	Pause    time.Duration // mean pause between the transactions of a writer
	Open     time.Duration // how long one in 500 transactions stays open before it commits
	Poison   int           // one in so many events has a header that no record can have; 0 for none

	Stopping context.CancelFunc
	Writers  sync.WaitGroup

	Committed  atomic.Int64 // transactions
	rolledBack atomic.Int64
	Poisoned   atomic.Int64 // events, also of transactions that were rolled back
}

// WorkloadTables makes the tables of the business, and the ledger.
const WorkloadTables = `
CREATE TABLE account (id int PRIMARY KEY, version bigint NOT NULL DEFAULT 0);
CREATE TABLE ledger (msg_id uuid PRIMARY KEY, account int NOT NULL, version bigint NOT NULL);`

// StartWorkload makes the business tables and starts writers on them.
func StartWorkload(t testing.TB, url string, writers int, w *Workload) *Workload {
	t.Helper()
	w.URL = url
	if w.Accounts == 0 {
		w.Accounts = 200
	}
	if w.Open == 0 {
		w.Open = 2 * time.Second
	}
	Execute(t, url, WorkloadTables+fmt.Sprintf("INSERT INTO account (id) SELECT generate_series(1, %d)", w.Accounts))
	ctx, cancel := context.WithCancel(context.Background())
	w.Stopping = cancel
	for range writers {
		w.Writers.Go(func() { w.Write(ctx) })
	}
	t.Cleanup(w.Stop)
	return w
}

// Stop ends the writers after their transactions.
func (w *Workload) Stop() {
	w.Stopping()
	w.Writers.Wait()
}

// Write runs transactions until ctx ends. A database that is unavailable is waited for.
func (w *Workload) Write(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { CloseQuietly(conn) }()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, w.URL); err != nil {
				conn = nil
				Wait(ctx, 50*time.Millisecond)
				continue
			}
		}
		switch err := w.transaction(ctx, conn); {
		case err == nil:
			w.Committed.Add(1)
		case errors.Is(err, errRolledBack):
			w.rolledBack.Add(1)
		}
		if w.Pause > 0 {
			Wait(ctx, time.Duration(rand.Int64N(int64(2*w.Pause))))
		}
	}
}

var errRolledBack = errors.New("rolled back on purpose")

// transaction changes one to three accounts, in one of the ways in which services do it.
func (w *Workload) transaction(ctx context.Context, conn *pgx.Conn) error {
	// A transaction that has begun is ended, also when the workload stops.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if rand.IntN(4) == 0 { // may vanish in a crash of Postgres after it was seen
			if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil {
				return err
			}
		}
		if rand.IntN(3) == 0 { // takes its transaction id before the aggregate
			if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
				return err
			}
		}
		first := 1 + rand.IntN(w.Accounts)
		for i := range 1 + rand.IntN(3) {
			account := first + i // ascending, so that writers do not deadlock
			if account > w.Accounts {
				break
			}
			change := w.change
			if rand.IntN(5) == 0 {
				change = w.changeInSavepoint
			}
			if err := change(ctx, tx, account); err != nil {
				return err
			}
		}
		switch {
		case rand.IntN(10) == 0:
			return errRolledBack
		case rand.IntN(500) == 0:
			Wait(ctx, w.Open)
		}
		return nil
	})
}

// change takes the account, and writes the event and the ledger.
func (w *Workload) change(ctx context.Context, tx pgx.Tx, account int) error {
	var version int64
	err := tx.QueryRow(ctx, "UPDATE account SET version = version + 1 WHERE id = $1 RETURNING version", account).Scan(&version)
	if err != nil {
		return err
	}
	id, err := w.event(ctx, tx, account, version)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "INSERT INTO ledger (msg_id, account, version) VALUES ($1, $2, $3)", id, account, version)
	return err
}

// event writes the event. The library refuses one that is poisoned; a service without it may write
// it.
func (w *Workload) event(ctx context.Context, tx pgx.Tx, account int, version int64) (id uuid.UUID, err error) {
	payload := strconv.AppendInt(nil, version, 10)
	if w.Poison > 0 && rand.IntN(w.Poison) == 0 {
		w.Poisoned.Add(1)
		err = tx.QueryRow(ctx, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers)
			VALUES ('account', $1, 'Changed', $2, '{"broken": null}') RETURNING msg_id`, strconv.Itoa(account), payload).Scan(&id)
		return id, err
	}
	ids, err := outbox.Insert(ctx, tx, outbox.Message{
		AggregateType: "account", AggregateID: strconv.Itoa(account), Type: "Changed", Payload: payload,
	})
	if err != nil {
		return id, err
	}
	return ids[0], nil
}

// Mend corrects what is parked and asks for it to be published, every now and then until ctx ends.
// A database that is unavailable is waited for.
func Mend(ctx context.Context, url string) {
	for ctx.Err() == nil {
		Wait(ctx, 500*time.Millisecond)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			continue
		}
		_, _ = conn.Exec(ctx, `UPDATE outbox_parked SET headers = NULL WHERE headers ? 'broken' AND released_seq IS NULL;
INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason)
SELECT DISTINCT lane, 'retry', aggregate_type, aggregate_id, 'mended' FROM outbox_parked p WHERE released_seq IS NULL AND NOT EXISTS (
    SELECT FROM outbox_parked_audit a WHERE a.done_seq IS NULL
    AND (a.lane, a.aggregate_type, a.aggregate_id) = (p.lane, p.aggregate_type, p.aggregate_id))`)
		CloseQuietly(conn)
	}
}

// changeInSavepoint changes the account in a savepoint, after one that is rolled back.
func (w *Workload) changeInSavepoint(ctx context.Context, tx pgx.Tx, account int) error {
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		return errors.Join(w.change(ctx, savepoint, account), errRolledBack)
	})
	if !errors.Is(err, errRolledBack) {
		return err
	}
	return pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return w.change(ctx, savepoint, account) })
}

// LedgerEntry is one committed event.
type LedgerEntry struct {
	Account int
	Version int64
}

func (e LedgerEntry) event() ledger.Event {
	return ledger.Event{Aggregate: strconv.Itoa(e.Account), Version: e.Version}
}

// Ledger reads what was committed.
func (w *Workload) Ledger(t testing.TB) map[uuid.UUID]LedgerEntry {
	t.Helper()
	conn := Connect(t, w.URL)
	rows, err := conn.Query(t.Context(), "SELECT msg_id, account, version FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[uuid.UUID]LedgerEntry)
	var id uuid.UUID
	var e LedgerEntry
	_, err = pgx.ForEachRow(rows, []any{&id, &e.Account, &e.Version}, func() error {
		entries[id] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// Wait pauses, or until ctx ends.
func Wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// CloseQuietly closes a connection to a server that may be away. A nil one is closed.
func CloseQuietly(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server may have been killed
}
