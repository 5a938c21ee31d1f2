package kit

import (
	"context"
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
	"github.com/outbox-relay/relay/internal/harness/workload"
	"github.com/outbox-relay/relay/outbox"
)

// Workload writes events as a service would, with internal/harness/workload. The ledger is written
// in the same transaction: it is the truth that the topics are compared with, even if the answer to
// a COMMIT was lost.
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

// WorkloadTables makes the table of the business, and the ledger.
const WorkloadTables = workload.Table + `
CREATE TABLE ledger (msg_id uuid PRIMARY KEY, account text NOT NULL, version bigint NOT NULL);`

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
	Execute(t, url, WorkloadTables+fmt.Sprintf("INSERT INTO account (id) SELECT n::text FROM generate_series(1, %d) n", w.Accounts))
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
		_ = w.transaction(ctx, conn) // whether it was committed stands in the ledger
		if w.Pause > 0 {
			Wait(ctx, time.Duration(rand.Int64N(int64(2*w.Pause))))
		}
	}
}

// plan draws how a transaction goes that changes one to three accounts, with one event each.
func (w *Workload) plan() workload.Plan {
	first := 1 + rand.IntN(w.Accounts)
	last := min(w.Accounts, first+rand.IntN(3))
	p := workload.Plan{LateCommit: rand.IntN(4) == 0, LateAccounts: rand.IntN(3) == 0, RollBack: rand.IntN(10) == 0}
	for account := first; account <= last; account++ { // ascending, so that writers do not deadlock
		p.Accounts = append(p.Accounts, strconv.Itoa(account))
	}
	p.Events = len(p.Accounts)
	if rand.IntN(5) == 0 {
		p.Savepoint, p.UndoneSavepoint = true, true
	}
	if rand.IntN(500) == 0 {
		p.Open = w.Open
	}
	return p
}

// transaction runs one. A transaction that has begun is ended, also when the workload stops.
func (w *Workload) transaction(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	writer := workload.Writer{Conn: conn, Insert: w.insert, Payload: func(e ledger.Event) ([]byte, error) {
		return strconv.AppendInt(nil, e.Version, 10), nil
	}}
	p := w.plan()
	if _, _, err := writer.Run(ctx, p); err != nil {
		return err
	}
	if p.RollBack {
		w.rolledBack.Add(1)
		return nil
	}
	w.Committed.Add(1)
	return nil
}

// insert writes the event and the ledger. The library refuses an event that is poisoned; a service
// without it may write it.
func (w *Workload) insert(ctx context.Context, tx pgx.Tx, messages ...outbox.Message) (ids []uuid.UUID, err error) {
	if w.Poison > 0 && rand.IntN(w.Poison) == 0 {
		w.Poisoned.Add(1)
		ids = make([]uuid.UUID, 1)
		err = tx.QueryRow(ctx, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers)
			VALUES ($1, $2, $3, $4, '{"broken": null}') RETURNING msg_id`,
			messages[0].AggregateType, messages[0].AggregateID, messages[0].Type, messages[0].Payload).Scan(&ids[0])
	} else {
		ids, err = outbox.Insert(ctx, tx, messages...)
	}
	if err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, "INSERT INTO ledger (msg_id, account, version) VALUES ($1, $2, convert_from($3, 'UTF8')::bigint)",
		ids[0], messages[0].AggregateID, messages[0].Payload)
	return ids, err
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

// Ledger reads what was committed.
func (w *Workload) Ledger(t testing.TB) map[uuid.UUID]ledger.Event {
	t.Helper()
	conn := Connect(t, w.URL)
	rows, err := conn.Query(t.Context(), "SELECT msg_id, account, version FROM ledger")
	if err != nil {
		t.Fatal(err)
	}
	events := make(map[uuid.UUID]ledger.Event)
	var id uuid.UUID
	var e ledger.Event
	_, err = pgx.ForEachRow(rows, []any{&id, &e.Aggregate, &e.Version}, func() error {
		events[id] = e
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
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
