package inbox_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// explain returns the plan of a prepared statement under one way of planning.
func explain(t *testing.T, conn *pgx.Conn, mode, statement string, types, arguments string) string {
	t.Helper()
	ctx := context.Background()
	script := fmt.Sprintf("SET plan_cache_mode = %s; DEALLOCATE ALL; PREPARE p (%s) AS %s", mode, types, statement)
	if _, err := conn.Exec(ctx, script, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) EXECUTE p ("+arguments+")", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return strings.Join(lines, "\n")
}

// touched are the partitions of the inbox that a plan scanned at least once.
var touched = regexp.MustCompile(`(?:Index|Seq|Bitmap)[A-Za-z ]* Scan (?:using \w+ )?on inbox_(past|ahead|hashed|\d{8})[^\n]*\(actual`)

// With partitions of weeks, much in the tables, and no statistics of it: each statement uses an
// index, and reads no more partitions than its ids are in, whether Postgres plans with the values
// or without.
func TestStatementsGoByIndexesAndReadTheirPartitionsOnly(t *testing.T) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	fill := `SELECT inbox_add_weeks(20);
INSERT INTO inbox SELECT 'billing', 'shop', inbox_key('old ' || n) FROM generate_series(1, 20000) n;
INSERT INTO inbox_parked_keys (consumer, topic, key) SELECT 'billing', 'orders', ('k' || n)::bytea FROM generate_series(1, 20000) n;
INSERT INTO inbox_parked (key_id, source, msg_id, type, partition, "offset", header_names, header_values, cause)
	SELECT id, 'shop', 'm', '', 0, 0, '{}', '{}', 'behind' FROM inbox_parked_keys;
INSERT INTO inbox_claims (consumer, source, msg_id, instance) SELECT 'billing', 'shop', inbox_key('c' || n), 'x' FROM generate_series(1, 5000) n;
INSERT INTO inbox_started (consumer, source, msg_id) SELECT 'billing', 'shop', inbox_key('c' || n) FROM generate_series(1, 5000) n`
	if _, err := conn.Exec(ctx, fill, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	s := tables.New("")
	now := uuid.Must(uuid.NewV7()).String()
	list := "'{" + now + "," + inbox.MarkID("old 1").String() + "}'"
	for name, c := range map[string]struct{ statement, types, arguments string }{
		"accept":     {s.Accept, "text, text, text, text, bytea, text, text", "'billing', 'shop', '" + now + "', 'orders', 'k7', '30000', '30000'"},
		"acceptMany": {s.AcceptMany, "text, text, uuid[], bigint", "'billing', 'shop', " + list + ", 2"},
		"anyParked":  {s.AnyParked, "text, text, text", "'billing', '30000', '30000'"},
		"parkedKeys": {s.ParkedKeys, "text, text, text", `'billing', '{orders}', '{"\\x6b37"}'`},
		"findKey":    {s.FindKey, "text, text, bytea", "'billing', 'orders', 'k7'"},
		"head":       {s.Head, "bigint", "77"},
		"seen":       {s.Seen, "text, text, uuid[]", "'billing', '{shop,shop}', " + list},
		"started":    {s.Started, "text, text, uuid[]", "'billing', '{shop,shop}', " + list},
		"start":      {s.Start, "text, text, uuid[]", "'billing', '{shop,shop}', " + list},
		"dropMark":   {s.DropMark, "text, text, text", "'billing', 'shop', '" + now + "'"},
		"readClaim":  {s.SeeClaim, "text, text, text", "'billing', 'shop', '" + now + "'"},
		"failed":     {s.Failed, "bigint, text", "77, 'x'"},
		"dropKey":    {s.DropKey, "bigint", "77"},
	} {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			plan := explain(t, conn, mode, c.statement, c.types, c.arguments)
			for line := range strings.SplitSeq(plan, "\n") {
				ofOneRow := strings.Contains(line, "Seq Scan on inbox_incarnation")
				if strings.Contains(line, "Seq Scan") && !ofOneRow && !strings.Contains(line, "never executed") {
					t.Errorf("%s, %s reads a whole table:\n%s", name, mode, plan)
					break
				}
			}
			if n := len(touched.FindAllString(plan, -1)); n > 2 {
				t.Errorf("%s, %s reads %d partitions:\n%s", name, mode, n, plan)
			}
		}
	}
}

// A question that writes nothing to the disk would find a server well whose disk is full.
func TestTheQuestionWhetherTheServerIsWellWritesToItsDisk(t *testing.T) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	if _, err := conn.Exec(ctx, "BEGIN; "+tables.LittleMemory, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS) "+tables.Spill, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if plan := strings.Join(lines, "\n"); !regexp.MustCompile(`temp read=\d+ written=[1-9]`).MatchString(plan) {
		t.Fatalf("nothing is written:\n%s", plan)
	}
}
