package backlog

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// session is one as Watch has.
func session(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := database(url).Connect(t.Context(), pg.Options{Settings: settings, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

func database(url string) *pg.Database {
	return &pg.Database{URL: func() (string, error) { return url, nil }, Beside: "relay_lanes"}
}

// now is the position of a lane that has published all there is.
func now(t *testing.T, conn *pgx.Conn) position.Snapshot {
	t.Helper()
	s, err := position.ParseSnapshot(outboxtest.Query[string](t, conn, `SELECT pg_current_snapshot()::text`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect counts, and compares the number of rows with the condition that says what is published.
func expect(t *testing.T, conn *pgx.Conn, at position.Position, rows int64, estimated bool) Backlog {
	t.Helper()
	found, err := Count(t.Context(), conn, "outbox", at)
	if err != nil {
		t.Fatal(err)
	}
	condition, params := at.Published(1)
	if exact := outboxtest.Query[int64](t, conn, `SELECT count(*) FROM outbox WHERE NOT `+condition, params...); exact != rows {
		t.Fatalf("the table has %d unpublished rows, and the test wants %d", exact, rows)
	}
	if found.Estimated != estimated || !estimated && found.Rows != rows {
		t.Errorf("%d rows are counted (estimated: %v), want %d (estimated: %v)", found.Rows, found.Estimated, rows, estimated)
	}
	if estimated && (found.Rows < rows*9/10 || found.Rows > rows*11/10) {
		t.Errorf("%d rows are estimated, and there are %d", found.Rows, rows)
	}
	return found
}

func TestRowsThatAreNotPublishedAreCountedWithTheirAge(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, other, looker := outboxtest.Open(t, url), outboxtest.Open(t, url), session(t, url)
	expect(t, looker, position.Position{From: position.Beginning}, 0, false)
	outboxtest.Events(t, conn, 20)
	expect(t, looker, position.Position{From: position.Beginning}, 20, false)

	// One transaction runs while the others are published.
	outboxtest.Exec(t, other, `BEGIN`)
	outboxtest.Events(t, other, 3)
	at := position.Position{From: now(t, conn)}
	if found := expect(t, looker, at, 0, false); found.Age != 0 {
		t.Errorf("no row is %v old", found.Age)
	}
	outboxtest.Exec(t, other, `COMMIT`)
	outboxtest.Events(t, conn, 4)
	expect(t, looker, at, 7, false)

	age := expect(t, looker, at, 7, false).Age
	if real := outboxtest.Query[float64](t, conn,
		`SELECT extract(epoch FROM clock_timestamp() - min(created_at))::float8 FROM outbox WHERE id > 20`); age.Seconds() > real || real-age.Seconds() > 5 {
		t.Errorf("the oldest is %v old, and was %v s old a moment later", age, real)
	}
}

func TestRowsOfAnOpenWindowAreCountedBehindTheLastOne(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, other, looker := outboxtest.Open(t, url), outboxtest.Open(t, url), session(t, url)
	outboxtest.Events(t, conn, 10) // published
	from := now(t, conn)
	outboxtest.Exec(t, other, `BEGIN`)
	outboxtest.Events(t, other, 5) // ids 11 to 15, not in the window
	outboxtest.Events(t, conn, 50) // ids 16 to 65, the window
	to := now(t, conn)
	outboxtest.Events(t, conn, 7) // ids 66 to 72
	at := position.Position{From: from, To: to, LastID: 45}
	expect(t, looker, at, 27, false)
	outboxtest.Exec(t, other, `COMMIT`)
	expect(t, looker, at, 32, false)
}

func TestMoreRowsThanTheBoundAreEstimated(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, looker := outboxtest.Open(t, url), session(t, url)
	outboxtest.Events(t, conn, 100)
	from := now(t, conn)
	for range 8 {
		outboxtest.Events(t, conn, 5000)
	}
	expect(t, looker, position.Position{From: from}, 40_000, true)
	to := now(t, conn)
	outboxtest.Events(t, conn, 5000)
	expect(t, looker, position.Position{From: from, To: to, LastID: 10_100}, 35_000, true)
	expect(t, looker, position.Position{From: from, To: to, LastID: 39_000}, 6_100, false)
}

// What a look costs does not depend on what is retained, nor on how much is unpublished.
func TestALookReadsABoundedPartOfTheIndexes(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, looker := outboxtest.Open(t, url), session(t, url)
	outboxtest.FillRetained(t, conn)
	for name, query := range map[string]string{"closed": closedCount("outbox"), "open": openCount("outbox")} {
		if _, err := looker.PgConn().Prepare(t.Context(), name, query, nil); err != nil {
			t.Fatal(err)
		}
	}
	check := func(t *testing.T) {
		next := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
		bound := fmt.Sprint(Bound)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
			outboxtest.Exec(t, looker, `SET plan_cache_mode = `+mode)
			for what, args := range map[string][]string{
				"closed, nothing is new":        {next, "{}", bound},
				"closed, a transaction ran":     {next, "{5000,19000}", bound},
				"closed, all of it is new":      {"1", "{}", bound},
				"open, at its end":              {next + ":" + next + ":", "200000", "{}", bound},
				"open, at its beginning":        {"1:1:", "0", "{5000,19000}", bound},
				"open, all ahead are published": {next + ":" + next + ":", "1000", "{}", bound},
			} {
				statement := strings.Split(what, ",")[0]
				plan := outboxtest.Explain(t, looker, true, statement, args...)
				plan.Walk(func(n *outboxtest.Plan) {
					if strings.Contains(n.Type, "Sort") || strings.Contains(n.Type, "Seq") || strings.Contains(n.Type, "Bitmap") {
						t.Errorf("%s, %s: %s", mode, what, n.Type)
					}
				})
				// 10,000 rows of this table and their index entries; the whole has 200,000.
				if plan.Buffers() > 600 {
					t.Errorf("%s, %s: a look touches %d buffers", mode, what, plan.Buffers())
				}
				if strings.HasSuffix(what, "nothing is new") && plan.Buffers() > 20 {
					t.Errorf("%s, %s: an idle look touches %d buffers", mode, what, plan.Buffers())
				}
			}
		}
	}
	t.Run("without statistics", check)
	t.Run("with statistics", func(t *testing.T) { outboxtest.Exec(t, conn, `VACUUM (ANALYZE) outbox`); check(t) })
}

func TestALookAtPartitionsUsesTheirIndexes(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.FillRetainedPartitions(t, conn)
	looker := session(t, url)
	next := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
	for name, query := range map[string]string{"closed": closedCount("outbox"), "open": openCount("outbox")} {
		if _, err := looker.PgConn().Prepare(t.Context(), name, query, nil); err != nil {
			t.Fatal(err)
		}
	}
	idle := outboxtest.Explain(t, looker, true, "closed", next, "{}", fmt.Sprint(Bound))
	open := outboxtest.Explain(t, looker, true, "open", "1:1:", "1000", "{}", fmt.Sprint(Bound))
	for what, plan := range map[string]outboxtest.Plan{"idle": idle, "open": open} {
		plan.Walk(func(n *outboxtest.Plan) {
			if strings.Contains(n.Type, "Sort") || strings.Contains(n.Type, "Seq") {
				t.Errorf("%s: %s of %s", what, n.Type, n.Relation)
			}
		})
		if plan.Buffers() > 900 {
			t.Errorf("%s: a look touches %d buffers", what, plan.Buffers())
		}
		t.Logf("%s: a look touches %d buffers", what, plan.Buffers())
	}
}

// watched is what a Watch has told.
type watched struct {
	told   chan Backlog
	locked chan string
}

// watch runs a Watch of a lane whose process does not know how far it has come.
func watch(t *testing.T, url string) watched {
	t.Helper()
	w := watched{make(chan Backlog, 100), make(chan string, 100)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watch(ctx, Options{
			Lane: "outbox", Table: "outbox", Database: database(url),
			Position: func() *position.Position { return nil },
			Told:     func(b Backlog) { w.told <- b }, Locked: func(reason string) { w.locked <- reason },
			Logger: slog.New(slog.DiscardHandler),
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(30 * time.Second):
		t.Fatal("a watch tells nothing")
		panic("unreachable")
	}
}

// A process that has not taken the lane over uses what the lane's row knows to be published, not
// by the intent of a batch that may never be committed.
func TestAProcessThatWaitsCountsFromTheConfirmedPosition(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Events(t, conn, 3)
	confirmed := now(t, conn)
	outboxtest.Events(t, conn, 4)
	outboxtest.Exec(t, conn, `INSERT INTO relay_lanes (lane, seq, snapshot_from, confirmed_seq, confirmed_from)
		VALUES ('outbox', 2, pg_current_snapshot(), 1, $1::text::pg_snapshot)`, confirmed.String())
	if found := receive(t, watch(t, url).told); found.Rows != 4 {
		t.Errorf("%d rows are counted, want the 4 of the batch in doubt", found.Rows)
	}
}

func TestASessionThatLocksTheTableIsNamed(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Events(t, conn, 3)
	outboxtest.Exec(t, conn, `BEGIN; LOCK TABLE outbox`)
	pid := outboxtest.Query[int](t, conn, `SELECT pg_backend_pid()`)
	w := watch(t, url)
	if reason := receive(t, w.locked); !strings.Contains(reason, fmt.Sprintf("pid %d ", pid)) {
		t.Errorf("the reason does not name the session with pid %d: %s", pid, reason)
	}
	outboxtest.Exec(t, conn, `COMMIT`)
	if found := receive(t, w.told); found.Rows != 3 {
		t.Errorf("%d rows are counted, want 3", found.Rows)
	}
	if reason := receive(t, w.locked); reason != "" {
		t.Errorf("the table is free, and the reason is %q", reason)
	}
}
