package integration

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

	"github.com/outbox-relay/relay/outbox"
)

// workload writes events as a service would: every transaction changes a business row, the account, and tells of it in the
// outbox. The account's version counts its changes under its row lock, so the version is the order in which transactions
// took the aggregate. The ledger is written in the same transaction: it is the truth that the topics are compared with,
// also where the answer to a COMMIT was lost.
type workload struct {
	url      string
	accounts int
	pause    time.Duration // mean pause between the transactions of a writer
	open     time.Duration // how long one in 500 transactions stays open before it commits
	poison   int           // one in so many events has a header that no record can have; 0 for none

	stopping context.CancelFunc
	writers  sync.WaitGroup

	committed  atomic.Int64 // transactions
	rolledBack atomic.Int64
	poisoned   atomic.Int64 // events, also of transactions that were rolled back
}

const workloadTables = `
CREATE TABLE account (id int PRIMARY KEY, version bigint NOT NULL DEFAULT 0);
CREATE TABLE ledger (msg_id uuid PRIMARY KEY, account int NOT NULL, version bigint NOT NULL);`

// startWorkload makes the business tables and starts writers on them.
func startWorkload(t testing.TB, url string, writers int, w *workload) *workload {
	t.Helper()
	w.url = url
	if w.accounts == 0 {
		w.accounts = 200
	}
	if w.open == 0 {
		w.open = 2 * time.Second
	}
	execute(t, url, workloadTables+fmt.Sprintf("INSERT INTO account (id) SELECT generate_series(1, %d)", w.accounts))
	ctx, cancel := context.WithCancel(context.Background())
	w.stopping = cancel
	for range writers {
		w.writers.Go(func() { w.write(ctx) })
	}
	t.Cleanup(w.stop)
	return w
}

// stop ends the writers after their transactions.
func (w *workload) stop() {
	w.stopping()
	w.writers.Wait()
}

// write runs transactions until ctx ends. A database that is away is waited for.
func (w *workload) write(ctx context.Context) {
	var conn *pgx.Conn
	defer func() { closeQuietly(conn) }()
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = pgx.Connect(ctx, w.url); err != nil {
				conn = nil
				wait(ctx, 50*time.Millisecond)
				continue
			}
		}
		switch err := w.transaction(ctx, conn); {
		case err == nil:
			w.committed.Add(1)
		case errors.Is(err, errRolledBack):
			w.rolledBack.Add(1)
		}
		if w.pause > 0 {
			wait(ctx, time.Duration(rand.Int64N(int64(2*w.pause))))
		}
	}
}

var errRolledBack = errors.New("rolled back on purpose")

// transaction changes one to three accounts, in one of the ways in which services do it.
func (w *workload) transaction(ctx context.Context, conn *pgx.Conn) error {
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
		first := 1 + rand.IntN(w.accounts)
		for i := range 1 + rand.IntN(3) {
			account := first + i // ascending, so that writers do not deadlock
			if account > w.accounts {
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
			wait(ctx, w.open)
		}
		return nil
	})
}

// change takes the account, and writes the event and the ledger.
func (w *workload) change(ctx context.Context, tx pgx.Tx, account int) error {
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

// event writes the event. The library refuses one that is poisoned; a service without it may write it.
func (w *workload) event(ctx context.Context, tx pgx.Tx, account int, version int64) (id uuid.UUID, err error) {
	payload := strconv.AppendInt(nil, version, 10)
	if w.poison > 0 && rand.IntN(w.poison) == 0 {
		w.poisoned.Add(1)
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

// mend corrects what is parked and asks for it to be published, every now and then until ctx ends. A database that is away
// is waited for.
func mend(ctx context.Context, url string) {
	for ctx.Err() == nil {
		wait(ctx, 500*time.Millisecond)
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			continue
		}
		_, _ = conn.Exec(ctx, `UPDATE outbox_parked SET headers = NULL WHERE headers ? 'broken' AND released_seq IS NULL;
INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason)
SELECT DISTINCT lane, 'retry', aggregate_type, aggregate_id, 'mended' FROM outbox_parked p WHERE released_seq IS NULL AND NOT EXISTS (
    SELECT FROM outbox_parked_audit a WHERE a.done_seq IS NULL AND (a.lane, a.aggregate_type, a.aggregate_id) = (p.lane, p.aggregate_type, p.aggregate_id))`)
		closeQuietly(conn)
	}
}

// changeInSavepoint changes the account in a savepoint, after one that is rolled back.
func (w *workload) changeInSavepoint(ctx context.Context, tx pgx.Tx, account int) error {
	err := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
		return errors.Join(w.change(ctx, savepoint, account), errRolledBack)
	})
	if !errors.Is(err, errRolledBack) {
		return err
	}
	return pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error { return w.change(ctx, savepoint, account) })
}

// ledgerEntry is one committed event.
type ledgerEntry struct {
	account int
	version int64
}

// ledger reads what was committed.
func (w *workload) ledger(t testing.TB) map[uuid.UUID]ledgerEntry {
	t.Helper()
	conn := connect(t, w.url)
	rows, err := conn.Query(t.Context(), "SELECT msg_id, account, version FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	entries := make(map[uuid.UUID]ledgerEntry)
	var id uuid.UUID
	var e ledgerEntry
	_, err = pgx.ForEachRow(rows, []any{&id, &e.account, &e.version}, func() error {
		entries[id] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func closeQuietly(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // the server may have been killed
}
