package relay

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// janitorConn opens a connection as the janitor does.
func janitorConn(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := (&Config{DatabaseURL: url}).sessions().Connect(t.Context(), pg.Options{Settings: janitorSettings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

// current is the progress of a lane that has published everything that is visible now.
func current(t testing.TB, conn *pgx.Conn) position.Position {
	t.Helper()
	s, err := position.ParseSnapshot(query[string](t, conn, `SELECT pg_current_snapshot()::text`))
	if err != nil {
		t.Fatal(err)
	}
	return position.Position{From: s}
}

func ids(t testing.TB, conn *pgx.Conn) []int64 {
	t.Helper()
	return query[[]int64](t, conn, `SELECT coalesce(array_agg(id ORDER BY id), '{}') FROM outbox`)
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
	url := newDatabase(t)
	conn, janitor := open(t, url), janitorConn(t, url)
	for i := range 3 {
		insert(t, conn, "o", fmt.Sprint(i))
	}
	exec(t, conn, `UPDATE outbox SET created_at = now() - interval '2 hours' WHERE id IN (1, 3)`)
	published := current(t, conn)
	insert(t, conn, "o", "not published") // id 4
	exec(t, conn, `UPDATE outbox SET created_at = now() - interval '1 year' WHERE id = 4`)
	w := &sweep{table: "outbox"}
	for range 2 {
		w.test(t, janitor, rule{published, time.Hour}, true)
		expectIDs(t, conn, 2, 4)
	}
	w.test(t, janitor, rule{published, 0}, true)
	expectIDs(t, conn, 4)
	w.test(t, janitor, rule{current(t, conn), 0}, true)
	expectIDs(t, conn)
}

// Of a window that is being drained, the rows up to the last id are published.
func TestRowsOfAnOpenWindowGoUpToItsLastID(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	conn, janitor, late := open(t, url), janitorConn(t, url), open(t, url)
	from := current(t, conn)
	exec(t, late, `BEGIN`)
	insert(t, late, "o", "1: commits after the window")
	for i := range 4 {
		insert(t, conn, "o", fmt.Sprint(i))
	}
	to := current(t, conn)
	exec(t, late, `COMMIT`)
	w := &sweep{table: "outbox"}
	if n := w.test(t, janitor, rule{position.Position{From: from.From, To: to.From, LastID: 3}, 0}, true); n != 2 {
		t.Errorf("%d rows went, want 2", n)
	}
	expectIDs(t, conn, 1, 4, 5)
}

func TestALockedRowIsPassedOverAndGoesLater(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	conn, janitor, holder := open(t, url), janitorConn(t, url), open(t, url)
	exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'o', '1', 'T' FROM generate_series(1, 1500)`)
	exec(t, holder, `BEGIN`)
	exec(t, holder, `SELECT FROM outbox WHERE id IN (1, 700, 701) FOR KEY SHARE`)
	exec(t, holder, `SELECT FROM outbox WHERE id = 1500 FOR UPDATE`)
	published := current(t, conn)
	w := &sweep{table: "outbox"}
	if n := w.test(t, janitor, rule{published, 0}, true); n != 1496 {
		t.Errorf("%d rows went, want 1496", n)
	}
	expectIDs(t, conn, 1, 700, 701, 1500)
	exec(t, holder, `COMMIT`)
	if n := w.test(t, janitor, rule{published, 0}, false); n != 0 {
		t.Errorf("%d rows behind the place of the sweep went", n)
	}
	w.test(t, janitor, rule{published, 0}, true)
	expectIDs(t, conn)
}

// A row with a low id whose transaction ends late is found when the sweep begins again, and never before it is published.
func TestALowIDThatCommitsLateGoesWithALaterSweep(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	conn, janitor, late := open(t, url), janitorConn(t, url), open(t, url)
	exec(t, late, `BEGIN`)
	insert(t, late, "o", "late")
	exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'o', '1', 'T' FROM generate_series(1, 2500)`)
	w := &sweep{table: "outbox"}
	before := current(t, conn)
	if n := w.test(t, janitor, rule{before, 0}, true); n != 2500 {
		t.Errorf("%d rows went, want 2500", n)
	}
	exec(t, late, `COMMIT`)
	w.test(t, janitor, rule{before, 0}, true)
	expectIDs(t, conn, 1)
	frontier := w.after
	w.test(t, janitor, rule{current(t, conn), 0}, true)
	expectIDs(t, conn)
	if frontier != 2501 || w.after != frontier {
		t.Errorf("the sweep was at %d and goes on at %d, want 2501", frontier, w.after)
	}
}

// Rows that were deleted and not vacuumed yet are not walked again: a round in the middle of the table costs what it
// looks at. The plans are those of an index, whatever the statistics.
func TestASweepCostsWhatItLooksAt(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	conn, janitor := open(t, url), janitorConn(t, url)
	withRetainedRows(t, conn)
	const frontier = 100_000
	exec(t, conn, fmt.Sprintf(`DELETE FROM outbox WHERE id <= %d`, frontier))
	// An old snapshot keeps the server from marking the index entries as dead.
	old := open(t, url)
	exec(t, old, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1`)
	published := current(t, conn)
	args := []string{fmt.Sprint(frontier), "1000", "0", published.From.String(), published.From.String(), "0", "0"}
	if _, err := janitor.PgConn().Prepare(t.Context(), "sweep", sweepQuery("outbox"), nil); err != nil {
		t.Fatal(err)
	}
	for _, statistics := range []string{"", `ANALYZE outbox`} {
		if statistics != "" {
			exec(t, conn, statistics)
		}
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			exec(t, janitor, `SET plan_cache_mode = `+mode+`; BEGIN`)
			plan := explain(t, janitor, true, "sweep", slices.Clone(args)...)
			exec(t, janitor, `ROLLBACK`)
			plan.expectScans(t, 2, "outbox_pkey", false, "id")
			// Each row is found once through the index, read and changed; the dead ones before it are 100 times as many.
			if plan.buffers() > 6000 {
				t.Errorf("%s: deleting a thousand rows touches %d buffers", mode, plan.buffers())
			}
		}
	}
}
