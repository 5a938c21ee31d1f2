package retention

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/position"
	migrations "github.com/outbox-relay/relay/sql"
)

// layout lists the range partitions and, behind a colon, how many rows each holds.
func layout(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	names := outboxtest.Query[[]string](t, conn, `SELECT array_agg(p.partition::text ORDER BY p.upper) FROM outbox_partitions() p`)
	var list []string
	for _, name := range names {
		list = append(list, fmt.Sprintf("%s:%d", name, outboxtest.Query[int](t, conn, `SELECT count(*) FROM `+name)))
	}
	return strings.Join(list, " ")
}

func expectLayout(t testing.TB, conn *pgx.Conn, want string) {
	t.Helper()
	if got := layout(t, conn); got != want {
		t.Errorf("the partitions are\n%s, want\n%s", got, want)
	}
}

func addAll(t testing.TB, conn *pgx.Conn) int {
	t.Helper()
	n, err := (&partitions{table: "outbox"}).add(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dropAll(t testing.TB, conn *pgx.Conn, r rule) int {
	t.Helper()
	p := &partitions{table: "outbox"}
	emptied, err := p.empty(t.Context(), conn, r)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := p.drop(t.Context(), conn)
	if err != nil || emptied != dropped {
		t.Errorf("%d partitions were emptied and %d dropped, %v", emptied, dropped, err)
	}
	return dropped
}

func TestPartitionsAreAddedAheadAndDroppedBehind(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	outboxtest.Partition(t, conn, 1000)
	expectLayout(t, conn, "outbox_p0:0 outbox_p1000:0 outbox_p2000:0 outbox_p3000:0 outbox_overflow:0")
	outboxtest.Events(t, conn, 2500)
	published := current(t, conn)
	if n := addAll(t, cleaner); n != 2 {
		t.Errorf("%d partitions were added, want 2", n)
	}
	expectLayout(t, conn, "outbox_p0:999 outbox_p1000:1000 outbox_p2000:501 outbox_p3000:0 outbox_p4000:0 outbox_p5000:0 outbox_overflow:0")
	if n := dropAll(t, cleaner, rule{published, 3600e9}); n != 0 {
		t.Errorf("%d partitions went that are too young", n)
	}
	if n := dropAll(t, cleaner, rule{position.Position{From: position.Beginning}, 0}); n != 0 {
		t.Errorf("%d partitions went that are not published", n)
	}
	if n := dropAll(t, cleaner, rule{published, 0}); n != 2 {
		t.Errorf("%d partitions went, want the two that are full", n)
	}
	expectLayout(t, conn, "outbox_p2000:501 outbox_p3000:0 outbox_p4000:0 outbox_p5000:0 outbox_overflow:0")
}

// A partition stays as long as a single row of it is unpublished, younger than the retention, or
// not committed yet.
func TestAPartitionGoesWithItsLastRow(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner, late := outboxtest.Open(t, url), cleanerConn(t, url), outboxtest.Open(t, url)
	outboxtest.Partition(t, conn, 1000)
	outboxtest.Exec(t, late, `BEGIN`)
	outboxtest.Insert(t, late, "o", "late") // id 1
	outboxtest.Events(t, conn, 1500)
	before := current(t, conn)
	if _, err := (&partitions{table: "outbox"}).empty(t.Context(), cleaner, rule{before, 0}); !isLockTimeout(err) {
		t.Errorf("beside a writer of that partition: %v, want a lock timeout", err)
	}
	outboxtest.Exec(t, late, `COMMIT`)
	if n := dropAll(t, cleaner, rule{before, 0}); n != 0 {
		t.Error("a row that is not published went with its partition")
	}
	outboxtest.Exec(t, conn, `UPDATE outbox SET created_at = now() - interval '2 hours' WHERE id < 900`)
	outboxtest.Exec(t, conn, `UPDATE outbox SET created_at = now() - interval '3 hours' WHERE id > 900`) // the newest is not the last
	now := current(t, conn)
	if n := dropAll(t, cleaner, rule{now, 1800e9}); n != 0 { // 900 is younger
		t.Error("a young row went with its partition")
	}
	outboxtest.Exec(t, conn, `UPDATE outbox SET created_at = now() - interval '2 hours' WHERE id = 900`)
	// Of an open window the partition lies below the last id, or it stays.
	open := position.Position{From: before.From, To: now.From, LastID: 998}
	if n := dropAll(t, cleaner, rule{open, 1800e9}); n != 0 {
		t.Error("a partition went that is drained in part")
	}
	open.LastID = 999
	if n := dropAll(t, cleaner, rule{open, 1800e9}); n != 1 {
		t.Error("a partition that is drained stayed")
	}
}

// Ids that outrun the partitions lose no row: what took them becomes a partition like any other,
// and ids jump behind it.
func TestRowsWithoutAPartitionAreKeptAndPassed(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	outboxtest.Partition(t, conn, 1000)
	outboxtest.Events(t, conn, 5500)
	const before = "outbox_p0:999 outbox_p1000:1000 outbox_p2000:1000 outbox_p3000:1000 "
	expectLayout(t, conn, before+"outbox_overflow:1501")
	for range 2 { // the bound is added, and proved, while writers go on
		if n := addAll(t, cleaner); n != 0 {
			t.Errorf("%d partitions were added, want none yet", n)
		}
		outboxtest.Insert(t, conn, "o", "goes on")
	}
	if n := addAll(t, cleaner); n != 5 {
		t.Errorf("%d partitions were added, want 5", n)
	}
	outboxtest.Events(t, conn, 2)
	expectLayout(t, conn, before+"outbox_p4000:1503 outbox_p1000006000:2 outbox_p1000007000:0 outbox_p1000008000:0 outbox_p1000009000:0 outbox_overflow:0")
	if n := dropAll(t, cleaner, rule{current(t, conn), 0}); n != 5 {
		t.Errorf("%d partitions went, want 5", n)
	}
	expectLayout(t, conn, "outbox_p1000006000:2 outbox_p1000007000:0 outbox_p1000008000:0 outbox_p1000009000:0 outbox_overflow:0")
	if n := outboxtest.Query[int](t, conn, `SELECT count(*) FROM pg_class WHERE relname LIKE '%overflow%' AND relkind IN ('i', 'r')`); n != 3 {
		t.Errorf("%d tables and indexes are named for the overflow, want one and two", n)
	}
	outboxtest.Events(t, conn, 3500)
	if addAll(t, cleaner)+addAll(t, cleaner)+addAll(t, cleaner) == 0 {
		t.Error("the second time no partition was added")
	}
}

// A transaction that has written keeps partitions from being added and dropped, and no writer waits
// for long behind that.
func TestAddingAndDroppingGiveWayToWriters(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner, writer := outboxtest.Open(t, url), cleanerConn(t, url), outboxtest.Open(t, url)
	outboxtest.Partition(t, conn, 1000)
	outboxtest.Events(t, conn, 1500)
	r := rule{current(t, conn), 0}
	outboxtest.Exec(t, writer, `BEGIN`)
	outboxtest.Insert(t, writer, "o", "open")
	if _, err := (&partitions{table: "outbox"}).add(t.Context(), cleaner); !isLockTimeout(err) {
		t.Errorf("add beside a writer: %v, want a lock timeout", err)
	}
	if n, err := (&partitions{table: "outbox"}).empty(t.Context(), cleaner, r); n != 1 || err != nil {
		t.Errorf("%d partitions were emptied beside a writer, %v; want the one without a writer", n, err)
	}
	if _, err := (&partitions{table: "outbox"}).drop(t.Context(), cleaner); !isLockTimeout(err) {
		t.Errorf("drop beside a writer: %v, want a lock timeout", err)
	}
	outboxtest.Insert(t, conn, "o", "another goes on")
	outboxtest.Exec(t, writer, `COMMIT`)
	dropped, err := (&partitions{table: "outbox"}).drop(t.Context(), cleaner)
	if added := addAll(t, cleaner); added != 1 || dropped != 1 || err != nil {
		t.Errorf("%d added and %d dropped once the writer was through, %v; want 1 and 1", added, dropped, err)
	}
}

// The layout of a table in use changes without a copy: rows, ids, grants and comments stay.
func TestATableInUseIsPartitionedAndTakenBack(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn, cleaner := outboxtest.Open(t, url), cleanerConn(t, url)
	outboxtest.Events(t, conn, 100)
	outboxtest.Partition(t, conn, 1000)
	if got := layout(t, conn); !strings.HasPrefix(got, "outbox_before:100 outbox_p1000001000:0 ") {
		t.Errorf("the partitions are %s", got)
	}
	outboxtest.Events(t, conn, 1)
	if got := ids(t, conn); len(got) != 101 || got[100] != 1_000_001_000 {
		t.Errorf("the last of %d ids is %d", len(got), got[len(got)-1])
	}
	for _, step := range slices.Backward(migrations.Partitioned()) {
		outboxtest.Exec(t, conn, step.Down)
	}
	outboxtest.Events(t, conn, 1)
	if got := ids(t, conn); len(got) != 102 || got[101] != 1_000_001_001 {
		t.Errorf("back in one table, the last of %d ids is %d", len(got), got[len(got)-1])
	}
	outboxtest.Partition(t, conn, 1000)
	dropped := dropAll(t, cleaner, rule{current(t, conn), 0})
	if rows := outboxtest.Query[int](t, conn, `SELECT count(*) FROM outbox`); dropped != 1 || rows != 0 {
		t.Errorf("%d partitions were dropped and %d rows are left", dropped, rows)
	}
}

// A role that may call the functions gains nothing by strange arguments.
func TestThePartitionFunctionsTrustNoArgument(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	conn := outboxtest.Open(t, url)
	outboxtest.Partition(t, conn, 1000)
	outboxtest.Events(t, conn, 1500)
	for _, call := range []string{
		`outbox_add_partition(0)`, `outbox_add_partition(NULL)`, `outbox_add_partition(1000000)`,
		fmt.Sprintf(`outbox_empty_partition('%[1]d:%[1]d:', 5000, '0')`, math.MaxInt64/2),
		`outbox_empty_partition(NULL, 5000, '0')`, `outbox_empty_partition('9:9:', NULL, '0')`, `outbox_empty_partition('9:9:', 5000, NULL)`,
		`outbox_empty_partition('9:9:', 5000, '-1 s')`,
	} {
		if _, err := conn.Exec(t.Context(), `SELECT `+call); err == nil {
			t.Errorf("%s: no error", call)
		}
	}
	for _, call := range []string{`outbox_add_partition()`, `outbox_drop_partition()`, `outbox_empty_partition('9:9:', 5000, '0')`} {
		outboxtest.Exec(t, conn, `BEGIN ISOLATION LEVEL REPEATABLE READ`)
		if _, err := conn.Exec(t.Context(), `SELECT `+call); err == nil {
			t.Errorf("%s: no error in a transaction with one snapshot", call)
		}
		outboxtest.Exec(t, conn, `ROLLBACK`)
	}
	if n := outboxtest.Query[int](t, conn, `SELECT count(*) FROM outbox`); n != 1500 {
		t.Errorf("%d rows are left of 1500", n)
	}
}
