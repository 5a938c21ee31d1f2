package relay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/position"
)

// retained is how many published rows the table of the plan tests holds.
const retained = 200_000

// withRetainedRows fills the outbox with rows of 20,000 transactions that ended long ago. Nothing gathers statistics by
// itself.
func withRetainedRows(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	exec(t, conn, `DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`)
	fill(t, conn)
}

func fill(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	unguarded(t, conn)
	exec(t, conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, msg_id, xact_id)
		SELECT 'order', 'o-' || n %% 1000, 'Changed', '\x00112233', '00000000-0000-7000-8000-000000000000',
		       (pg_current_xact_id()::text::bigint - 1 - (%[1]d - n) / 10)::text::xid8
		FROM generate_series(1, %[1]d) n`, retained))
}

// planNode is the part of EXPLAIN (FORMAT JSON) that matters here.
type planNode struct {
	Type      string     `json:"Node Type"`
	Relation  string     `json:"Relation Name"`
	Index     string     `json:"Index Name"`
	Cond      string     `json:"Index Cond"`
	TidCond   string     `json:"TID Cond"`
	Hit       int        `json:"Shared Hit Blocks"`
	Read      int        `json:"Shared Read Blocks"`
	Rows      float64    `json:"Actual Rows"`
	Plans     []planNode `json:"Plans"`
	statement string
}

// explain returns the plan of a statement that the connection has prepared.
func explain(t testing.TB, conn *pgx.Conn, analyze bool, statement string, args ...string) planNode {
	t.Helper()
	options := "FORMAT JSON"
	if analyze {
		options += ", ANALYZE, BUFFERS"
	}
	for i := range args {
		args[i] = "'" + args[i] + "'"
	}
	sql := fmt.Sprintf(`EXPLAIN (%s) EXECUTE %s(%s)`, options, pgx.Identifier{statement}.Sanitize(), strings.Join(args, ", "))
	results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	var plans []struct{ Plan planNode }
	// A column whose type is a domain is shown with the type below it, which the index is made for all the same.
	text := bytes.ReplaceAll(results[0].Rows[0][0], []byte("(xact_id)::xid8"), []byte("xact_id"))
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	plans[0].Plan.statement = sql
	return plans[0].Plan
}

func (n *planNode) walk(visit func(*planNode)) {
	visit(n)
	for i := range n.Plans {
		n.Plans[i].walk(visit)
	}
}

func (n *planNode) buffers() int { return n.Hit + n.Read }

// expectScans checks that the plan touches the table in so many places, always through the index with a condition on each
// of the columns, and sorts only where it may.
func (n *planNode) expectScans(t *testing.T, count int, index string, maySort bool, columns ...string) {
	t.Helper()
	found := 0
	n.walk(func(scan *planNode) {
		if strings.Contains(scan.Type, "Sort") && !maySort {
			t.Errorf("%s: sorts", n.statement)
		}
		if scan.Relation == "" && scan.Index == "" || scan.Type == "ModifyTable" {
			return
		}
		found++
		if scan.Index != index || !slices.Contains([]string{"Index Scan", "Index Only Scan"}, scan.Type) {
			t.Errorf("%s: %s of %s through %q, want an index scan of %s", n.statement, scan.Type, scan.Relation, scan.Index, index)
		}
		for _, column := range columns {
			if !strings.Contains(scan.Cond, "("+column+" ") {
				t.Errorf("%s: %s has the condition %q, want one on %s", n.statement, scan.Type, scan.Cond, column)
			}
		}
	})
	if found != count {
		t.Errorf("%s: the table is read in %d places, want %d", n.statement, found, count)
	}
}

// The plan must be right whatever the planner believes of the table: that it is empty, that it knows nothing, or the truth.
func TestPlansHoldWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, conn := followAll(t, url), open(t, url)
	check := func(t *testing.T) {
		next := query[string](t, conn, `SELECT pg_current_xact_id()::text`)
		for _, mode := range []string{"force_generic_plan", "force_custom_plan", "auto"} {
			exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
			for what, at := range map[string][2]string{
				"nothing ran":                    {next, "{}"},
				"some ran":                       {next, "{5000,15000,19000}"},
				"the beginning":                  {"1", "{}"},
				"all of it is new, and some ran": {"10000", "{9000,9001,9999}"},
			} {
				t.Run(mode+"/"+what, func(t *testing.T) {
					tail := explain(t, f.reader.conn, false, tailStatement, at[0], at[1], "1001")
					tail.expectScans(t, 2, "outbox_xact_id_idx", true, "xact_id")
					least := explain(t, f.reader.conn, false, leastStatement, at[0], at[1], next+":"+next+":", "150000")
					least.expectScans(t, 2, "outbox_xact_id_idx", false, "xact_id")
					from := at[0] + ":" + at[0] + ":"
					page := explain(t, f.reader.conn, false, pageStatement, from, next+":"+next+":", "100000", "1000")
					page.expectScans(t, 1, "outbox_pkey", false, "id")
				})
			}
		}
	}
	t.Run("of an empty table", func(t *testing.T) { exec(t, conn, `ANALYZE outbox`); check(t) })
	withRetainedRows(t, conn)
	t.Run("stale", check)
	t.Run("fresh", func(t *testing.T) { exec(t, conn, `ANALYZE outbox`); check(t) })
	t.Run("fresh and vacuumed", func(t *testing.T) { exec(t, conn, `VACUUM (ANALYZE) outbox`); check(t) })
	t.Run("of a table that was once full", func(t *testing.T) {
		exec(t, conn, `DELETE FROM outbox WHERE id > 10`)
		check(t)
	})
	t.Run("none", func(t *testing.T) {
		// A table of its own, because statistics cannot be forgotten.
		exec(t, conn, `DROP TABLE outbox; DROP FUNCTION outbox_refuse_row(); `+outboxTable(t)+`; ALTER TABLE outbox SET (autovacuum_enabled = off)`)
		fill(t, conn)
		f = followAll(t, url)
		check(t)
	})
}

// outboxTable is the part of the migration that makes the table and its index.
func outboxTable(t testing.TB) string {
	t.Helper()
	text := outboxMigration()
	start, end := strings.Index(text, "CREATE TABLE outbox"), strings.Index(text, "COMMENT ON TABLE outbox")
	if start < 0 || end < start {
		t.Fatal("the migration of the outbox has another form than this test knows")
	}
	return strings.TrimSuffix(strings.TrimSpace(text[start:end]), ";")
}

// The work of a read follows what is new, never what is retained.
func TestReadsTouchNoMoreThanTheyReturn(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, conn := followAll(t, url), open(t, url)
	withRetainedRows(t, conn)
	exec(t, conn, `VACUUM (ANALYZE) outbox`)
	table := query[int](t, conn, `SELECT (pg_relation_size('outbox') / 8192)::int`)
	at := query[string](t, conn, `SELECT pg_current_xact_id()::text`)
	everything := at + ":" + at + ":"
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
		for _, xip := range []string{"{}", "{" + at + "}"} {
			idle := explain(t, f.reader.conn, true, tailStatement, at, xip, "1001")
			if idle.buffers() > 20 || idle.Rows != 1 {
				t.Errorf("%s: an idle tail read with %s touches %d buffers for %v rows", mode, xip, idle.buffers(), idle.Rows)
			}
		}
		for _, rows := range []int{100, 1000, 10_000} {
			page := explain(t, f.reader.conn, true, pageStatement, "1:1:", everything, "100000", fmt.Sprint(rows))
			// The rows lie in the order of their ids: their share of the table, and of the index.
			if most := 20 + 2*rows*table/retained; page.buffers() > most || page.Rows != float64(rows) {
				t.Errorf("%s: a page of %d rows touches %d buffers for %v rows, want at most %d", mode, rows, page.buffers(), page.Rows, most)
			}
		}
	}
	t.Logf("the table has %d pages", table)
}

// The least id of a window behind many retained rows is found through the index, before a vacuum has passed as well.
func TestTheLeastIDIsFoundInTheIndex(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	f, conn := followAll(t, url), open(t, url)
	withRetainedRows(t, conn)
	exec(t, conn, `ANALYZE outbox`)
	from := now(t, f)
	exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'order', 'x', 'T' FROM generate_series(1, 2000)`)
	to := now(t, f)
	for _, mode := range []string{"force_generic_plan", "force_custom_plan"} {
		exec(t, f.reader.conn, `SET plan_cache_mode = `+mode)
		least := explain(t, f.reader.conn, true, leastStatement, fmt.Sprint(from.From.Xmax), "{}", to.From.String(), fmt.Sprint(retained+500))
		if least.buffers() > 60 {
			t.Errorf("%s: finding the least of 2000 new ids touches %d buffers", mode, least.buffers())
		}
		got, err := f.reader.beforeLeast(t.Context(), position.Position{From: from.From, To: to.From}, retained+500)
		if err != nil || got != retained {
			t.Errorf("%s: before the least id is %d, %v; want %d", mode, got, err, retained)
		}
	}
}
