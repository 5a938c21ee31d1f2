package outboxtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Retained is how many published rows the table of the plan tests holds.
const Retained = 200_000

// FillRetained fills the outbox with rows of 20,000 transactions that ended long ago. Nothing
// gathers statistics by itself.
func FillRetained(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Exec(t, conn, `ALTER TABLE outbox SET (autovacuum_enabled = off)`)
	Exec(t, conn, `DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`)
	Fill(t, conn)
}

// Fill writes Retained rows of transactions that ended long ago.
func Fill(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Unguard(t, conn)
	Exec(t, conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, msg_id, xact_id)
		SELECT 'order', 'o-' || n %% 1000, 'Changed', '\x00112233', '00000000-0000-7000-8000-000000000000',
		       (pg_current_xact_id()::text::bigint - 1 - (%[1]d - n) / 10)::text::xid8
		FROM generate_series(1, %[1]d) n`, Retained))
}

// Plan is the part of EXPLAIN (FORMAT JSON) that matters here.
type Plan struct {
	Type      string  `json:"Node Type"`
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	Cond      string  `json:"Index Cond"`
	TidCond   string  `json:"TID Cond"`
	Hit       int     `json:"Shared Hit Blocks"`
	Read      int     `json:"Shared Read Blocks"`
	Rows      float64 `json:"Actual Rows"`
	Plans     []Plan  `json:"Plans"`
	statement string
}

// Explain returns the plan of a statement that the connection has prepared.
func Explain(t testing.TB, conn *pgx.Conn, analyze bool, statement string, args ...string) Plan {
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
	var plans []struct{ Plan Plan }
	// A column whose type is a domain is shown with the type below it, which the index is made for
	// all the same.
	text := bytes.ReplaceAll(results[0].Rows[0][0], []byte("(xact_id)::xid8"), []byte("xact_id"))
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	plans[0].Plan.statement = sql
	return plans[0].Plan
}

// Walk visits a node and all below it.
func (n *Plan) Walk(visit func(*Plan)) {
	visit(n)
	for i := range n.Plans {
		n.Plans[i].Walk(visit)
	}
}

// Buffers is how many pages a node touched, in memory or not.
func (n *Plan) Buffers() int { return n.Hit + n.Read }

// ExpectScans checks that the plan touches the table in so many places, always through the index
// with a condition on each of the columns, and sorts only if it may.
func (n *Plan) ExpectScans(t *testing.T, count int, index string, maySort bool, columns ...string) {
	t.Helper()
	found := 0
	n.Walk(func(scan *Plan) {
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

// partitionsOfPlans is how many partitions the plan tests have rows in.
const partitionsOfPlans = 30

// FillRetainedPartitions partitions the outbox and fills it with as many rows as FillRetained.
func FillRetainedPartitions(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	Partition(t, conn, Retained/partitionsOfPlans)
	Exec(t, conn, `DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`)
	for range partitionsOfPlans - 3 { // four are there
		Exec(t, conn, `SELECT outbox_add_partition(100)`)
	}
	Exec(t, conn, `DO $$ DECLARE name text; BEGIN
		FOR name IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'outbox'::regclass LOOP
			EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name); END LOOP; END $$`)
	Fill(t, conn)
	if n := Query[int](t, conn, `SELECT count(*) FROM outbox_overflow`); n != 0 {
		t.Fatalf("%d rows have no partition", n)
	}
}

// ExpectPartitionScans checks that every scan of a partition goes through the index of that kind
// with a condition on the column.
func (n *Plan) ExpectPartitionScans(t *testing.T, index string, maySort bool, column string) (scans int) {
	t.Helper()
	n.Walk(func(scan *Plan) {
		if strings.Contains(scan.Type, "Sort") && !maySort {
			t.Errorf("%s: sorts", n.statement)
		}
		if scan.Relation == "" && scan.Index == "" {
			return
		}
		scans++
		if !slices.Contains([]string{"Index Scan", "Index Only Scan"}, scan.Type) || !strings.Contains(scan.Index, index) {
			t.Errorf("%s: %s of %s through %q, want an index scan of the one for %s", n.statement, scan.Type, scan.Relation, scan.Index, index)
		}
		if !strings.Contains(scan.Cond, "("+column+" ") {
			t.Errorf("%s: %s has the condition %q, want one on %s", n.statement, scan.Type, scan.Cond, column)
		}
	})
	return scans
}
