package retention

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// cleanerConn opens a connection as a Cleaner does.
func cleanerConn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := (&pg.Database{URL: func() (string, error) { return url, nil }, Beside: "relay_lanes"}).Connect(t.Context(), pg.Options{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

// current is the progress of a lane that has published everything that is visible now.
func current(t testing.TB, conn *pgx.Conn) position.Position {
	t.Helper()
	s, err := position.ParseSnapshot(outboxtest.Query[string](t, conn, `SELECT pg_current_snapshot()::text`))
	if err != nil {
		t.Fatal(err)
	}
	return position.Position{From: s}
}

func ids(t testing.TB, conn *pgx.Conn) []int64 {
	t.Helper()
	return outboxtest.Query[[]int64](t, conn, `SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM outbox`)
}

func expectIDs(t testing.TB, conn *pgx.Conn, want ...int64) {
	t.Helper()
	if got := ids(t, conn); !slices.Equal(got, want) {
		t.Errorf("the outbox holds %v, want %v", got, want)
	}
}

// round makes one round, from the lowest id if asked.
func (w *sweep) test(t testing.TB, conn *pgx.Conn, r rule, fromTheBeginning bool) int64 {
	t.Helper()
	if fromTheBeginning {
		w.again = time.Time{}
	}
	n, err := w.round(t.Context(), conn, r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnlyPublishedRowsOlderThanTheRetentionGo(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	for i := range 3 {
		outboxtest.Insert(t, conn, "o", fmt.Sprint(i))
	}
	outboxtest.Exec(t, conn, `UPDATE outbox SET created_at = now() - interval '2 hours' WHERE id IN (1, 3)`)
	published := current(t, conn)
	outboxtest.Insert(t, conn, "o", "not published") // id 4
	outboxtest.Exec(t, conn, `UPDATE outbox SET created_at = now() - interval '1 year' WHERE id = 4`)
	w := &sweep{table: "outbox"}
	for range 2 {
		w.test(t, cleaner, rule{published, time.Hour}, true)
		expectIDs(t, conn, 2, 4)
	}
	w.test(t, cleaner, rule{published, 0}, true)
	expectIDs(t, conn, 4)
	w.test(t, cleaner, rule{current(t, conn), 0}, true)
	expectIDs(t, conn)
}

// Of a window that is being drained, the rows up to the last id are published.
func TestRowsOfAnOpenWindowGoUpToItsLastID(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner, late := outboxtest.Open(t, url), cleanerConn(t, url), outboxtest.Open(t, url)
	from := current(t, conn)
	outboxtest.Exec(t, late, `BEGIN`)
	outboxtest.Insert(t, late, "o", "1: commits after the window")
	for i := range 4 {
		outboxtest.Insert(t, conn, "o", fmt.Sprint(i))
	}
	to := current(t, conn)
	outboxtest.Exec(t, late, `COMMIT`)
	w := &sweep{table: "outbox"}
	if n := w.test(t, cleaner, rule{position.Position{From: from.From, To: to.From, LastID: 3}, 0}, true); n != 2 {
		t.Errorf("%d rows went, want 2", n)
	}
	expectIDs(t, conn, 1, 4, 5)
}

func TestALockedRowIsPassedOverAndGoesLater(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner, holder := outboxtest.Open(t, url), cleanerConn(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'o', '1', 'T' FROM generate_series(1, 1500)`)
	outboxtest.Exec(t, holder, `BEGIN`)
	outboxtest.Exec(t, holder, `SELECT FROM outbox WHERE id IN (1, 700, 701) FOR KEY SHARE`)
	outboxtest.Exec(t, holder, `SELECT FROM outbox WHERE id = 1500 FOR UPDATE`)
	published := current(t, conn)
	w := &sweep{table: "outbox"}
	if n := w.test(t, cleaner, rule{published, 0}, true); n != 1496 {
		t.Errorf("%d rows went, want 1496", n)
	}
	expectIDs(t, conn, 1, 700, 701, 1500)
	outboxtest.Exec(t, holder, `COMMIT`)
	if n := w.test(t, cleaner, rule{published, 0}, false); n != 0 {
		t.Errorf("%d rows behind the place of the sweep went", n)
	}
	w.test(t, cleaner, rule{published, 0}, true)
	expectIDs(t, conn)
}

// A row with a low id whose transaction ends late is found when the sweep begins again, and never
// before it is published.
func TestALowIDThatCommitsLateGoesWithALaterSweep(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner, late := outboxtest.Open(t, url), cleanerConn(t, url), outboxtest.Open(t, url)
	outboxtest.Exec(t, late, `BEGIN`)
	outboxtest.Insert(t, late, "o", "late")
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'o', '1', 'T' FROM generate_series(1, 2500)`)
	w := &sweep{table: "outbox"}
	before := current(t, conn)
	if n := w.test(t, cleaner, rule{before, 0}, true); n != 2500 {
		t.Errorf("%d rows went, want 2500", n)
	}
	outboxtest.Exec(t, late, `COMMIT`)
	w.test(t, cleaner, rule{before, 0}, true)
	expectIDs(t, conn, 1)
	frontier := w.after
	w.test(t, cleaner, rule{current(t, conn), 0}, true)
	expectIDs(t, conn)
	if frontier != 2501 || w.after != frontier {
		t.Errorf("the sweep was at %d and goes on at %d, want 2501", frontier, w.after)
	}
}

// Rows that were deleted and not vacuumed yet are not walked again: a round in the middle of the
// table costs what it looks at. The plans are those of an index, whatever the statistics.
func TestASweepCostsWhatItLooksAt(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	outboxtest.FillRetained(t, conn)
	const frontier = 100_000
	outboxtest.Exec(t, conn, fmt.Sprintf(`DELETE FROM outbox WHERE id <= %d`, frontier))
	// An old snapshot keeps the server from marking the index entries as dead.
	old := outboxtest.Open(t, url)
	outboxtest.Exec(t, old, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1`)
	published := current(t, conn)
	args := []string{fmt.Sprint(frontier), "1000", "0", published.From.String(), published.From.String(), "0", "0"}
	if _, err := cleaner.PgConn().Prepare(t.Context(), "sweep", sweepQuery("outbox"), nil); err != nil {
		t.Fatal(err)
	}
	for _, statistics := range []string{"", `ANALYZE outbox`} {
		if statistics != "" {
			outboxtest.Exec(t, conn, statistics)
		}
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			outboxtest.Exec(t, cleaner, `SET plan_cache_mode = `+mode+`; BEGIN`)
			plan := outboxtest.Explain(t, cleaner, true, "sweep", slices.Clone(args)...)
			outboxtest.Exec(t, cleaner, `ROLLBACK`)
			plan.ExpectScans(t, 2, "outbox_pkey", false, "id")
			// Each row is found once through the index, read and changed; the dead ones before it
			// are 100 times as many.
			if plan.Buffers() > 6000 {
				t.Errorf("%s: deleting a thousand rows touches %d buffers", mode, plan.Buffers())
			}
		}
	}
}

// The statement that deletes is bound as well, however late it comes.
func TestRetentionDeletesNothingOfAnotherTable(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	for range 5 {
		outboxtest.Insert(t, conn, "a", "b")
	}
	oid := outboxtest.Query[uint32](t, conn, `SELECT 'outbox'::regclass::oid`)
	for _, c := range []struct {
		oid  uint32
		left int
	}{{oid + 1, 5}, {oid, 0}} {
		w := &sweep{table: `"outbox"`, oid: c.oid}
		if _, err := w.round(t.Context(), cleaner, rule{current(t, conn), 0}); err != nil {
			t.Fatal(err)
		}
		if n := outboxtest.Query[int](t, conn, `SELECT count(*)::int FROM outbox`); n != c.left {
			t.Errorf("%d rows are left, want %d", n, c.left)
		}
	}
}

// A sweep that is far ahead when ids begin again finds the new rows.
func TestIDsMayBeginAgainBehindASweep(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Events(t, conn, 20)
	outboxtest.Exec(t, conn, `TRUNCATE outbox RESTART IDENTITY`)
	outboxtest.Insert(t, conn, "new", "new 1")
	outboxtest.Insert(t, conn, "new", "new 2")
	w := &sweep{table: "outbox", after: 1_000_000}
	w.test(t, cleanerConn(t, url), rule{current(t, conn), 0}, true)
	expectIDs(t, conn)
}
