package integration

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
)

// settleSeqs is how many batches show that a lane goes on.
const settleSeqs = 5

func awaitGoingOn(t *testing.T, url string) {
	t.Helper()
	before := laneSeq(t, url)
	eventually(t, 2*time.Minute, "the lane goes on", func() bool { return laneSeq(t, url) > before+settleSeqs })
}

// survived judges a relay that has lived through an outage without a human.
func survived(t *testing.T, load *workload, r *relayProcess, settings []string, topic string) {
	t.Helper()
	if !r.Alive() {
		t.Fatalf("the relay ended with status %d", r.ExitCode())
	}
	load.stop()
	awaitPublished(t, load)
	r.Terminate()
	r.Wait(time.Minute)
	finish(t, load, settings, topic)
}

// The only broker is killed. Kafka 4.3.1 then forgets, now and then, a transaction of which it has written that it is to be committed:
// once back, it notes that the transaction is complete and writes none of its markers. The relay does (see Markers in DESIGN.md).
func TestTheOnlyBrokerGoesAwayAndComesBack(t *testing.T) {
	kafka := ownCluster(t, cluster.Options{})
	url := database(t)
	settings := relaySettings(t, url, kafka.Bootstrap)
	load := startWorkload(t, url, 4, &workload{pause: 20 * time.Millisecond})
	r := startRelay(t, settings, "run")
	awaitGoingOn(t, url)
	for range 2 {
		if err := kafka.Kill(1); err != nil {
			t.Fatal(err)
		}
		committed := load.committed.Load()
		eventually(t, time.Minute, "writers do not notice", func() bool { return load.committed.Load() > committed+100 })
		if err := kafka.Revive(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		awaitGoingOn(t, url)
	}
	survived(t, load, r, settings, "outbox.event.account")
}

// Every broker of three is killed in turn, and comes back.
func TestBrokersOfThreeAreKilledInTurn(t *testing.T) {
	kafka := threeBrokers(t)
	url := database(t)
	settings := relaySettings(t, url, kafka.Bootstrap)
	load := startWorkload(t, url, 4, &workload{pause: 20 * time.Millisecond})
	r := startRelay(t, settings, "run")
	awaitGoingOn(t, url)
	for node := 1; node <= 3; node++ {
		if err := kafka.Kill(node); err != nil {
			t.Fatal(err)
		}
		awaitGoingOn(t, url) // two of three in-sync replicas are enough
		if err := kafka.Revive(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		awaitGoingOn(t, url)
	}
	survived(t, load, r, settings, "outbox.event.account")
}

func TestPostgresCrashesAndComesBack(t *testing.T) {
	server, url := ownPostgres(t)
	route, topic := routeOf(t)
	settings := relaySettings(t, url, brokers(t), route)
	load := startWorkload(t, url, 8, &workload{pause: 10 * time.Millisecond})
	r := startRelay(t, settings, "run")
	awaitGoingOn(t, url)
	for range 3 {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		awaitGoingOn(t, url)
	}
	survived(t, load, r, settings, topic)
}
