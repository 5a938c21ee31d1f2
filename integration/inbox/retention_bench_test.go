//go:build bench

package inbox

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
)

// Sixty days of marks, nine in ten with ids that are UUIDv7, then one Sweep with a retention of
// thirty days, while messages go on to be accepted: what a mark takes, what removing costs, and how
// long the slowest message had to wait.
func TestInboxRetentionCost(t *testing.T) {
	marksWanted := kit.NumberOf(t, "RELAY_TEST_BENCH_MARKS", 2_000_000)
	m := newMarks(t)
	m.addPastWeeks(10, 3)
	const million = 1_000_000
	before, began := m.wal(), time.Now()
	for from := 0; from < marksWanted; from += million {
		m.exec(`INSERT INTO inbox (consumer, source, msg_id, handled_at)
			SELECT 'billing', 'orders', CASE WHEN n % 10 = 0 THEN inbox_key(n::text)
			       ELSE (left(inbox_floor(at)::text, 14) || '7' || right(gen_random_uuid()::text, 21))::uuid END, at
			  FROM (SELECT n, now() - interval '60 days' * (1 - n::float8 / $3) AS at FROM generate_series($1::int, $2::int) AS n) AS x`,
			from, min(from+million, marksWanted)-1, marksWanted)
	}
	filled, wal := time.Since(began), m.wal()-before
	all := int64(marksWanted)
	t.Logf("%d marks in %v; %d bytes of log a mark", all, filled.Round(time.Second), wal/all)
	heap := kit.Number(t, m.conn, `SELECT sum(pg_table_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'inbox'::regclass`)
	index := kit.Number(t, m.conn, `SELECT sum(pg_indexes_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'inbox'::regclass`)
	t.Logf("a mark takes %d bytes: %d in the table, %d in its indexes", (heap+index)/all, heap/all, index/all)
	if bytes := (heap + index) / all; bytes > 200 {
		t.Errorf("a mark takes %d bytes, want 200 at most", bytes)
	}

	idle := m.slowestAccept(t, func() { time.Sleep(2 * time.Second) })
	m.retain(30 * 24 * time.Hour)
	before = m.wal()
	var took time.Duration
	sweeping := m.slowestAccept(t, func() {
		began := time.Now()
		swept := m.sweep()
		took = time.Since(began)
		t.Logf("the sweep took %v: %d weeks emptied, %d marks deleted one by one", took.Round(time.Millisecond), len(swept.Emptied), swept.Deleted)
	})
	t.Logf("%d MB of log; the slowest message took %v, and %v without a sweep", (m.wal()-before)>>20, sweeping, idle)
	left := m.count("inbox")
	t.Logf("%d marks are left", left)
	// Half of them are old; of these only one week that is not over yet as a whole may be left.
	if most := all/2 + all*9/10*7/60 + all/100; left > most+int64(50_000) {
		t.Errorf("%d marks are left, want %d at most", left, most)
	}
	if n := m.count("inbox_hashed WHERE handled_at < now() - interval '30 days 1 hour'"); n != 0 {
		t.Errorf("%d old marks are left among those with hashed ids", n)
	}
	began = time.Now()
	if swept := m.sweep(); swept.Emptied != nil || swept.Deleted != 0 {
		t.Errorf("the second sweep found more: %+v", swept)
	}
	t.Logf("a sweep with nothing to do took %v", time.Since(began).Round(time.Millisecond))
}

// wal is how many bytes of log the server has written.
func (m marks) wal() int64 {
	m.t.Helper()
	return kit.Number(m.t, m.conn, `SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint`)
}

// slowestAccept accepts messages one after the other while work runs, and returns how long the
// slowest one took.
func (m marks) slowestAccept(t *testing.T, work func()) (slowest time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	accepted := make(chan error, 1)
	go func() {
		accepted <- func() error {
			conn, err := pgx.Connect(ctx, m.url)
			if err != nil {
				return err
			}
			for ctx.Err() == nil {
				id, err := uuid.NewV7()
				began := time.Now()
				if err == nil {
					_, err = conn.Exec(context.WithoutCancel(ctx), `SELECT inbox_accept('billing', 'orders', $1)`, id.String())
				}
				if err != nil {
					return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
				}
				slowest = max(slowest, time.Since(began))
			}
			return conn.Close(context.WithoutCancel(ctx))
		}()
	}()
	work()
	stop()
	if err := <-accepted; err != nil {
		t.Fatal(err)
	}
	return slowest
}
