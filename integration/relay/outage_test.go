package relay

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/kit"
)

// survived judges a relay that has lived through an outage without a human.
func survived(t *testing.T, load *kit.Workload, r *kit.RelayProcess, settings []string, topic string) {
	t.Helper()
	if !r.Alive() {
		t.Fatalf("the relay ended with status %d", r.ExitCode())
	}
	load.Stop()
	kit.AwaitPublished(t, load)
	r.Terminate()
	r.Wait(time.Minute)
	kit.Finish(t, load, settings, topic)
}

// The only broker is killed. Kafka 4.3.1 then forgets, now and then, a transaction of which it has
// written that it is to be committed: once back, it notes that the transaction is complete and
// writes none of its markers. The relay does (see Markers in DESIGN.md).
func TestTheOnlyBrokerGoesAwayAndComesBack(t *testing.T) {
	t.Parallel()
	kafka := kit.OwnCluster(t, cluster.Options{})
	url := kit.Database(t)
	settings := kit.RelaySettings(t, url, kafka.Bootstrap)
	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 20 * time.Millisecond})
	r := kit.StartRelay(t, settings, "run")
	kit.AwaitGoingOn(t, url)
	for range 2 {
		if err := kafka.Kill(1); err != nil {
			t.Fatal(err)
		}
		committed := load.Committed.Load()
		kit.Eventually(t, time.Minute, "writers do not notice", func() bool { return load.Committed.Load() > committed+100 })
		if err := kafka.Revive(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		kit.AwaitGoingOn(t, url)
	}
	survived(t, load, r, settings, "outbox.event.account")
}

func TestPostgresCrashesAndComesBack(t *testing.T) {
	t.Parallel()
	server, url := kit.OwnPostgres(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route)
	load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 4), &kit.Workload{Pause: 10 * time.Millisecond})
	r := kit.StartRelay(t, settings, "run")
	kit.AwaitGoingOn(t, url)
	for range 3 {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		kit.AwaitGoingOn(t, url)
	}
	survived(t, load, r, settings, topic)
}
