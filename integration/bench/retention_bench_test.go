//go:build bench

package bench

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
)

// benchNumber reads a number from the environment. A day in minutes: rows come at a steady rate,
// are published, and go after a retention that is short against the run. The sizes must stop
// growing once the retention is full. Vacuum runs as shipped, but for the pause between two rounds
// of it, which is shortened with the day.
func TestRetentionKeepsTheOutboxFlat(t *testing.T) {
	rows := kit.NumberOf(t, "RELAY_TEST_BENCH_ROWS", 3_000_000)
	rate := kit.NumberOf(t, "RELAY_TEST_BENCH_RATE", 6_000)
	maintenance := kit.MaintenanceURL(t)
	kit.Execute(t, maintenance, "ALTER SYSTEM SET autovacuum_naptime = '5s'")
	kit.Execute(t, maintenance, "SELECT pg_reload_conf()")
	t.Cleanup(func() {
		kit.Execute(t, maintenance, "ALTER SYSTEM RESET autovacuum_naptime")
		kit.Execute(t, maintenance, "SELECT pg_reload_conf()")
	})
	const retention = 20 * time.Second
	for name, lay := range map[string]func(string){
		"plain":       func(string) {},
		"partitioned": func(url string) { kit.PartitionOutbox(t, url, 100_000) },
	} {
		t.Run(name, func(t *testing.T) {
			url := kit.Database(t)
			lay(url)
			conn := kit.Connect(t, url)
			if kit.Number(t, conn, "SELECT count(*) FROM pg_settings WHERE name = 'autovacuum' AND setting = 'on'") != 1 {
				t.Fatal("autovacuum is off")
			}
			alone := insertAtRate(t, url, rows/10, rate)
			t.Logf("%s: writers alone, %d rows: %d bytes of log a row", name, rows/10, alone.wal/int64(rows/10))
			route, topic := kit.RouteOf(t)
			kit.CreateTopic(t, kit.Brokers(t), topic, 12)
			r := kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_RETENTION="+retention.String()), "run")
			r.AwaitLog(time.Minute, "lane taken over")
			run := insertAtRate(t, url, rows, rate)
			t.Logf("%s: with the relay, %d rows in %v: %d bytes of log a row", name, rows, run.took.Round(time.Second), run.wal/int64(rows))
			middle, end := run.most(4, 6), run.most(8, 10)
			t.Logf("%s: most in the middle %v", name, middle)
			t.Logf("%s: most at the end    %v", name, end)
			if limit := middle.bytes + middle.bytes/4; end.bytes > limit {
				t.Errorf("the outbox grew from %d MB in the middle to %d MB at the end", middle.bytes>>20, end.bytes>>20)
			}
			if end.lanes > 2*middle.lanes+(4<<20) {
				t.Errorf("relay_lanes grew from %d kB to %d kB", middle.lanes>>10, end.lanes>>10)
			}
			kit.Eventually(t, 2*time.Minute, "all rows go, but those of partitions that are not full", func() bool {
				return kit.Number(t, conn, "SELECT count(*) FROM outbox") < 100_000
			})
			r.Terminate()
			r.Wait(time.Minute)
		})
	}
}

// sample is the state of the outbox at one moment.
type sample struct {
	rows, dead   int64 // as the statistics have it
	bytes, lanes int64 // of tables, indexes and TOAST
}

func (s sample) String() string {
	return fmt.Sprintf("%d MB, %d rows live and %d dead, relay_lanes %d kB", s.bytes>>20, s.rows, s.dead, s.lanes>>10)
}

type insertRun struct {
	samples []sample
	wal     int64
	took    time.Duration
}

// most returns the greatest of each figure between two tenths of the run.
func (r insertRun) most(from, to int) (m sample) {
	for _, s := range r.samples[len(r.samples)*from/10 : len(r.samples)*to/10] {
		m.rows, m.dead, m.bytes, m.lanes = max(m.rows, s.rows), max(m.dead, s.dead), max(m.bytes, s.bytes), max(m.lanes, s.lanes)
	}
	return m
}

// insertAtRate inserts rows of 200 bytes, 20 a transaction, by four writers, and takes a sample a
// second.
func insertAtRate(t *testing.T, url string, rows, rate int) (run insertRun) {
	t.Helper()
	const writers, each = 4, 20
	conn := kit.Connect(t, url)
	before := kit.Number(t, conn, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Error(err)
				return
			}
			defer kit.CloseQuietly(conn)
			for i := w; i < rows/each; i += writers {
				time.Sleep(time.Until(began.Add(time.Duration(i) * each * time.Second / time.Duration(rate))))
				_, err := conn.Exec(ctx, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
					SELECT 'account', ($1 + n)::text, 'Changed', decode(repeat(md5($1::text), 12) || '0011223344556677', 'hex') FROM generate_series(1, $2) n`, i%1000, each)
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			run.took = time.Since(began)
			run.wal = kit.Number(t, conn, "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn") - before
			return run
		case <-tick.C:
		}
		var s sample
		err := conn.QueryRow(ctx, `SELECT coalesce(sum(n_live_tup), 0), coalesce(sum(n_dead_tup), 0), coalesce(sum(pg_total_relation_size(relid)), 0),
			pg_total_relation_size('relay_lanes') FROM pg_stat_user_tables WHERE relname LIKE 'outbox%'`).Scan(&s.rows, &s.dead, &s.bytes, &s.lanes)
		if err != nil {
			t.Fatal(err)
		}
		run.samples = append(run.samples, s)
	}
}

// What a drain loses to a cleaner that removes the rows right behind it.
func TestDrainWithRetention(t *testing.T) {
	ratio := func(retention string) float64 {
		cfg := benchConfig(t)
		cfg.Rates, cfg.Duration, cfg.Idle = []int{100}, time.Second, time.Second
		cfg.Environ = append(cfg.Environ, "RELAY_RETENTION="+retention)
		return runBench(t, cfg).Ratio
	}
	kept, removed := ratio("forever"), ratio("0")
	t.Logf("rows/s beside a raw producer: %.2f kept forever, %.2f with retention 0 (ratio %.2f)", kept, removed, removed/kept)
}
