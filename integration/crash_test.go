package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/relay"
)

// relaySettings are the environment of a relay on the test's servers.
func relaySettings(t testing.TB, databaseURL string, bootstrap []string, more ...string) []string {
	t.Helper()
	return append([]string{
		"RELAY_DATABASE_URL=" + databaseURL,
		"RELAY_BROKERS=" + strings.Join(bootstrap, ","),
		"RELAY_ADMIN=off",
		"RELAY_TOPICS_CREATE=true",
		"RELAY_TOPICS_PARTITIONS=12",
		"RELAY_START_TIMEOUT=60s",
	}, more...)
}

// routeOf gives a test topics of its own on a shared cluster.
func routeOf(t testing.TB) (setting, topic string) {
	prefix := uniqueName(t)
	return "RELAY_ROUTE=" + prefix + ".{aggregate_type}", prefix + ".account"
}

// A relay is killed with SIGKILL before and after each step of a batch, in a loop, on real Kafka and real Postgres, while
// writers write. RELAY_TEST_KILLS sets how often; the default fits make test.
func TestKilledAtEveryStepNothingIsLostDoubledOrOutOfOrder(t *testing.T) {
	kills := 24
	if text := os.Getenv("RELAY_TEST_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil || kills < 1 {
			t.Fatalf("RELAY_TEST_KILLS=%q is not a number from 1", text)
		}
	}
	url := database(t)
	route, topic := routeOf(t)
	settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := startWorkload(t, url, 12, &workload{pause: 20 * time.Millisecond})
	steps := relay.Steps()
	began := time.Now()
	for kill := range kills {
		step := steps[kill%len(steps)]
		failpoint := fmt.Sprintf("RELAY_FAILPOINT=%s:%d", step, 1+rand.IntN(12))
		process := startRelay(t, append(settings, failpoint), "run")
		if status := process.Wait(time.Minute); status != -1 {
			t.Fatalf("kill %d at %s: the relay ended with status %d before it reached the failpoint", kill, failpoint, status)
		}
	}
	t.Logf("%d kills at %d failpoints in %v", kills, len(steps), time.Since(began).Round(time.Second))
	load.stop()
	finish(t, load, settings, topic)
}

// finish lets a relay publish what is left, stops it in order, and judges.
func finish(t testing.TB, load *workload, settings []string, topics ...string) {
	t.Helper()
	last := startRelay(t, settings, "run")
	last.AwaitLog(time.Minute, "lane taken over")
	awaitPublished(t, load)
	last.Terminate()
	if status := last.Wait(30 * time.Second); status != 0 {
		t.Errorf("SIGTERM ended the relay with status %d", status)
	}
	bootstrap := settingOf(settings, "RELAY_BROKERS")
	v := judge(load.ledger(t), everything(t, strings.Split(bootstrap, ","), topics...))
	t.Logf("transactions: %d committed, %d rolled back", load.committed.Load(), load.rolledBack.Load())
	v.require(t)
}

// awaitPublished waits until the relay's row says that it has published everything that is in the outbox.
func awaitPublished(t testing.TB, load *workload) {
	t.Helper()
	eventually(t, 3*time.Minute, "everything in the outbox is published", func() bool {
		conn := connect(t, load.url)
		defer closeQuietly(conn)
		var left int
		err := conn.QueryRow(t.Context(), `
SELECT count(*) FROM outbox, relay_lanes
WHERE snapshot_to IS NOT NULL OR snapshot_from IS NULL OR NOT pg_visible_in_snapshot(xact_id, snapshot_from)`).Scan(&left)
		return err == nil && left == 0
	})
}

func settingOf(settings []string, name string) string {
	for _, s := range settings {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	return ""
}
