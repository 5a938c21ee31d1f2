package relay

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// A row that is removed before it is published would be lost. Relays are killed at every step of a
// batch while writers write, with the cleaner at work as soon as a row may go: partitions are added
// and dropped meanwhile.
func TestKilledWithRetentionZeroNothingIsLost(t *testing.T) {
	t.Parallel()
	killWithRetentionZero(t, kit.PartitionedDatabase(t))
}

func killWithRetentionZero(t *testing.T, url string) {
	t.Helper()
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=100", "RELAY_RETENTION=0")
	load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 5), &kit.Workload{Pause: 10 * time.Millisecond, Open: 50 * time.Millisecond})
	steps := pipeline.Steps()
	for kill := range len(steps) {
		// Far enough that the cleaner has had a few rounds, which is checked at the end.
		failpoint := fmt.Sprintf("RELAY_FAILPOINT=%s:%d", steps[kill], 20+rand.IntN(40))
		if status := kit.StartRelay(t, append(settings, failpoint), "run").Wait(2 * time.Minute); status != -1 {
			t.Fatalf("the relay ended with status %d before it reached %s", status, failpoint)
		}
	}
	load.Stop()
	conn := kit.Connect(t, url)
	kept := kit.Number(t, conn, "SELECT count(*) FROM outbox")
	kit.Finish(t, load, settings, topic)
	entries := int64(len(load.Ledger(t)))
	if kept >= entries/2 {
		t.Errorf("%d of %d rows were kept: the cleaner has hardly worked", kept, entries)
	}
	t.Logf("%d of %d rows were kept at the end of the load", kept, entries)
}

// What keeps a row for now does not keep it for good, and keeps no other.
func TestRowsGoBesideLocksAndOldSnapshots(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	conn := kit.Connect(t, url)
	old := begin(t, url) // keeps dead rows from being vacuumed, not from being deleted
	if _, err := old.Exec(t.Context(), "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	late := begin(t, url)
	insert(t, late, "late", "late") // id 1
	fillOutbox(t, url, 3000)
	locks := begin(t, url)
	if _, err := locks.Exec(t.Context(), "SELECT FROM outbox WHERE id IN (2, 1500) FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	kit.Execute(t, url, "UPDATE outbox SET created_at = now() - interval '1 year' WHERE id > 1500") // however old they are
	r := kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_RETENTION=0"), "run")
	kit.Eventually(t, time.Minute, "all rows go but the locked ones", func() bool {
		return kit.Number(t, conn, "SELECT count(*) FROM outbox") == 2
	})
	kit.Commit(t, locks)
	kit.Commit(t, late)
	kit.Consume(t, kit.Brokers(t), 3001, time.Minute, topic)
	// A sweep begins at the lowest id again once a minute, and with each session.
	r.Terminate()
	if status := r.Wait(30 * time.Second); status != 0 {
		t.Errorf("the relay ended with status %d", status)
	}
	kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_RETENTION=0"), "run")
	kit.Eventually(t, time.Minute, "the late and the locked rows go", func() bool { return kit.Number(t, conn, "SELECT count(*) FROM outbox") == 0 })
	kit.Commit(t, old)
}

// A row that is old but not published stays, for as long as its topic keeps it from being
// published.
func TestAnOldRowThatIsNotPublishedStays(t *testing.T) {
	for name, make := range kit.Layouts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := make(t)
			route, topic := kit.RouteOf(t)
			kit.Execute(t, url, "INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at) "+
				"SELECT 'account', '1', 'Changed', now() - interval '1 year' FROM generate_series(1, 2500)")
			settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_RETENTION=0", "RELAY_TOPICS_CREATE=false")
			r := kit.StartRelay(t, settings, "run")
			r.AwaitLog(time.Minute, "lane waits for a topic")
			conn := kit.Connect(t, url)
			const round = `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'relay outbox retention' AND datname = current_database()
				AND state = 'idle' AND (query LIKE 'WITH seen%' OR query LIKE '%_drop_partition%')`
			kit.Eventually(t, time.Minute, "the cleaner has made a round", func() bool { return kit.Number(t, conn, round) == 1 })
			// They are parked, because their topic does not exist.
			const kept = "SELECT count(*) FROM (SELECT msg_id FROM outbox UNION SELECT msg_id FROM outbox_parked) AS kept"
			if n := kit.Number(t, conn, kept); n != 2500 {
				t.Fatalf("%d rows are left of 2500 that were not published", n)
			}
			kit.CreateTopic(t, kit.Brokers(t), topic, 3)
			kit.Consume(t, kit.Brokers(t), 2500, time.Minute, topic)
			left := int64(0)
			if name == "partitioned" {
				left = 2500 - 2*kit.PartitionRows + 1 // the rest has no full partition yet; ids begin at 1
			}
			kit.Eventually(t, time.Minute, "the published rows go", func() bool { return kit.Number(t, conn, "SELECT count(*) FROM outbox") == left })
		})
	}
}
