package outboxread

import (
	"fmt"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/position"
	migrations "github.com/outbox-relay/relay/sql"
)

// The plan must be right whatever the planner believes of the table: that it is empty, that it
// knows nothing, or the truth.
func TestPlansHoldWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	check := func(t *testing.T) {
		next := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan", "auto"} {
			outboxtest.Exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
			for what, at := range map[string][2]string{
				"nothing ran":                    {next, "{}"},
				"some ran":                       {next, "{5000,15000,19000}"},
				"the beginning":                  {"1", "{}"},
				"all of it is new, and some ran": {"10000", "{9000,9001,9999}"},
			} {
				t.Run(mode+"/"+what, func(t *testing.T) {
					tail := outboxtest.Explain(t, f.reader.conn, false, tailStatement, at[0], at[1], "1001")
					tail.ExpectScans(t, 2, "outbox_xact_id_idx", true, "xact_id")
					least := outboxtest.Explain(t, f.reader.conn, false, leastStatement, at[0], at[1], next+":"+next+":", "150000")
					least.ExpectScans(t, 2, "outbox_xact_id_idx", false, "xact_id")
					from := at[0] + ":" + at[0] + ":"
					page := outboxtest.Explain(t, f.reader.conn, false, pageStatement, from, next+":"+next+":", "100000", "1000")
					page.ExpectScans(t, 1, "outbox_pkey", false, "id")
				})
			}
		}
	}
	t.Run("of an empty table", func(t *testing.T) { outboxtest.Exec(t, conn, `ANALYZE outbox`); check(t) })
	outboxtest.FillRetained(t, conn)
	t.Run("stale", check)
	t.Run("fresh", func(t *testing.T) { outboxtest.Exec(t, conn, `ANALYZE outbox`); check(t) })
	t.Run("fresh and vacuumed", func(t *testing.T) { outboxtest.Exec(t, conn, `VACUUM (ANALYZE) outbox`); check(t) })
	t.Run("of a table that was once full", func(t *testing.T) {
		outboxtest.Exec(t, conn, `DELETE FROM outbox WHERE id > 10`)
		check(t)
	})
	t.Run("none", func(t *testing.T) {
		// Another table, because statistics cannot be forgotten.
		outboxtest.Exec(t, conn, `DROP TABLE outbox; DROP FUNCTION outbox_refuse_row(); `+outboxTable(t)+`; ALTER TABLE outbox SET (autovacuum_enabled = off)`)
		outboxtest.Fill(t, conn)
		f = followAll(t, url)
		check(t)
	})
}

// outboxTable is the part of the migration that makes the table and its index.
func outboxTable(t testing.TB) string {
	t.Helper()
	text := migrations.List()[0].Up
	start, end := strings.Index(text, "CREATE TABLE outbox"), strings.Index(text, "COMMENT ON TABLE outbox")
	if start < 0 || end < start {
		t.Fatal("the migration of the outbox has another form than this test knows")
	}
	return strings.TrimSuffix(strings.TrimSpace(text[start:end]), ";")
}

// The work of a read follows what is new, never what is outboxtest.Retained.
func TestReadsTouchNoMoreThanTheyReturn(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	outboxtest.FillRetained(t, conn)
	outboxtest.Exec(t, conn, `VACUUM (ANALYZE) outbox`)
	table := outboxtest.Query[int](t, conn, `SELECT (pg_relation_size('outbox') / 8192)::int`)
	at := outboxtest.Query[string](t, conn, `SELECT pg_current_xact_id()::text`)
	everything := at + ":" + at + ":"
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		outboxtest.Exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
		for _, xip := range []string{"{}", "{" + at + "}"} {
			idle := outboxtest.Explain(t, f.reader.conn, true, tailStatement, at, xip, "1001")
			if idle.Buffers() > 20 || idle.Rows != 1 {
				t.Errorf("%s: an idle tail read with %s touches %d buffers for %v rows", mode, xip, idle.Buffers(), idle.Rows)
			}
		}
		for _, rows := range []int{100, 1000, 10_000} {
			page := outboxtest.Explain(t, f.reader.conn, true, pageStatement, "1:1:", everything, "100000", fmt.Sprint(rows))
			// The rows lie in the order of their ids: their share of the table, and of the index.
			if most := 20 + 2*rows*table/outboxtest.Retained; page.Buffers() > most || page.Rows != float64(rows) {
				t.Errorf("%s: a page of %d rows touches %d buffers for %v rows, want at most %d", mode, rows, page.Buffers(), page.Rows, most)
			}
		}
	}
	t.Logf("the table has %d pages", table)
}

// The least id of a window behind many outboxtest.Retained rows is found through the index, before
// a vacuum has passed as well.
func TestTheLeastIDIsFoundInTheIndex(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	f, conn := followAll(t, url), outboxtest.Open(t, url)
	outboxtest.FillRetained(t, conn)
	outboxtest.Exec(t, conn, `ANALYZE outbox`)
	from := now(t, f)
	outboxtest.Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'order', 'x', 'T' FROM generate_series(1, 2000)`)
	to := now(t, f)
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		outboxtest.Exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
		least := outboxtest.Explain(t, f.reader.conn, true, leastStatement, fmt.Sprint(from.From.Xmax), "{}", to.From.String(), fmt.Sprint(outboxtest.Retained+500))
		if least.Buffers() > 60 {
			t.Errorf("%s: finding the least of 2000 new ids touches %d buffers", mode, least.Buffers())
		}
		got, err := f.reader.beforeLeast(t.Context(), position.Position{From: from.From, To: to.From}, outboxtest.Retained+500)
		if err != nil || got != outboxtest.Retained {
			t.Errorf("%s: before the least id is %d, %v; want %d", mode, got, err, outboxtest.Retained)
		}
	}
}
