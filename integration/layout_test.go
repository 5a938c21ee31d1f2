package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	migrations "github.com/outbox-relay/relay/sql"
)

// lockTimeout is the SQLSTATE of a step that met a transaction which stayed open for longer than the step waits.
const lockTimeout = "55P03"

// The layout changes, there and back, under writers and a relay, which is killed on the way.
func TestTheLayoutChangesUnderWritersAndTheRelay(t *testing.T) {
	url := database(t)
	route, topic := routeOf(t)
	settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=200", "RELAY_RETENTION=2s")
	load := startWorkload(t, url, 8, &workload{pause: 10 * time.Millisecond, open: 50 * time.Millisecond})
	conn := connect(t, url)
	written := func(more int64) {
		t.Helper()
		goal := load.committed.Load() + more
		eventually(t, time.Minute, "writers go on", func() bool { return load.committed.Load() >= goal })
	}
	take := func(step migrations.Migration, text string) {
		t.Helper()
		eventually(t, time.Minute, "step "+step.Name+" gets its lock", func() bool {
			_, err := conn.PgConn().Exec(t.Context(), fmt.Sprintf("SET outbox.partition_rows = %d; %s", partitionRows, text)).ReadAll()
			if state := sqlState(err); err != nil && state != lockTimeout {
				t.Fatalf("step %s: %v", step.Name, err)
			}
			return err == nil
		})
	}
	first := startRelay(t, settings, "run")
	first.AwaitLog(time.Minute, "lane taken over")
	written(500)
	for _, step := range migrations.Partitioned() {
		take(step, step.Up)
		written(200)
	}
	first.Kill()
	second := startRelay(t, settings, "run")
	second.AwaitLog(time.Minute, "lane taken over")
	written(500)
	if n := number(t, conn, "SELECT count(*) FROM outbox WHERE tableoid = 'outbox_overflow'::regclass"); n > 0 {
		t.Logf("%d rows found no partition", n)
	}
	for _, step := range slices.Backward(migrations.Partitioned()) {
		take(step, step.Down)
		written(200)
	}
	second.Kill()
	load.stop()
	finish(t, load, settings, topic)
}
