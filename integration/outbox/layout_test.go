package outbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	migrations "github.com/outbox-relay/relay/sql"
)

// lockTimeout is the SQLSTATE of a step that met a transaction which stayed open for longer than
// the step waits.
const lockTimeout = "55P03"

// The layout changes, there and back, under writers and a relay, which is killed on the way.
func TestTheLayoutChangesUnderWritersAndTheRelay(t *testing.T) {
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200", "RELAY_RETENTION=2s")
	load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 4), &kit.Workload{Pause: 10 * time.Millisecond, Open: 50 * time.Millisecond})
	conn := kit.Connect(t, url)
	written := func(more int64) {
		t.Helper()
		goal := load.Committed.Load() + more
		kit.Eventually(t, time.Minute, "writers go on", func() bool { return load.Committed.Load() >= goal })
	}
	take := func(step migrations.Migration, text string) {
		t.Helper()
		kit.Eventually(t, time.Minute, "step "+step.Name+" gets its lock", func() bool {
			_, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("SET outbox.partition_rows = %d; %s", kit.PartitionRows, text)).ReadAll()
			if state := kit.SQLState(err); err != nil && state != lockTimeout {
				t.Fatalf("step %s: %v", step.Name, err)
			}
			return err == nil
		})
	}
	first := kit.StartRelay(t, settings, "run")
	first.AwaitLog(time.Minute, "lane taken over")
	written(500)
	for _, step := range migrations.Partitioned() {
		take(step, step.Up)
		written(200)
	}
	first.Kill()
	second := kit.StartRelay(t, settings, "run")
	second.AwaitLog(time.Minute, "lane taken over")
	written(500)
	if n := kit.Number(t, conn, "SELECT count(*) FROM outbox WHERE tableoid = 'outbox_overflow'::regclass"); n > 0 {
		t.Logf("%d rows found no partition", n)
	}
	for _, step := range slices.Backward(migrations.Partitioned()) {
		take(step, step.Down)
		written(200)
	}
	second.Kill()
	load.Stop()
	kit.Finish(t, load, settings, topic)
}

// As psql runs the files, statement by statement, in a schema whose name needs quotes; the way back
// leaves what was there before.
func TestTheStepsOfTheLayoutRunInPsqlThereAndBack(t *testing.T) {
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	const schema = "Odd schema"
	kit.Script(t, conn, `CREATE SCHEMA "Odd schema"; SET search_path = "Odd schema"`)
	for _, m := range migrations.List() {
		kit.Script(t, conn, m.Up)
	}
	before := catalogOf(t, conn, schema)
	for _, rows := range []int{0, 10} {
		kit.Script(t, conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'a', '1', 'T' FROM generate_series(1, %d)`, rows))
		for _, step := range migrations.Partitioned() {
			for _, statement := range kit.SplitAsPsql(step.Up) {
				kit.Script(t, conn, statement)
			}
		}
		if n := kit.Number(t, conn, "SELECT count(*) FROM outbox_partitions()"); n < 5 {
			t.Errorf("%d partitions", n)
		}
		for _, step := range slices.Backward(migrations.Partitioned()) {
			for _, statement := range kit.SplitAsPsql(step.Down) {
				kit.Script(t, conn, statement)
			}
		}
		if left := catalogOf(t, conn, schema); !slices.Equal(left, before) {
			t.Errorf("with %d rows, left\n%s\nbefore there was\n%s", rows, strings.Join(left, "\n"), strings.Join(before, "\n"))
		}
	}
	if n := kit.Number(t, conn, "SELECT count(*) FROM outbox"); n != 10 {
		t.Errorf("%d rows are left of 10", n)
	}
}
