package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/relay"
)

// An owner is paused at the worst moments, another relay takes over, and the first one wakes up with a transaction open
// and, at before-end, with its intent written and its commit about to be sent.
func TestAPausedOwnerThatWakesPublishesNothing(t *testing.T) {
	for _, step := range []relay.Step{relay.AfterRead, relay.AfterProduce, relay.AfterFlush, relay.BeforeIntent, relay.BeforeEnd} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			url := database(t)
			route, topic := routeOf(t)
			settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=100")
			load := startWorkload(t, url, 4, &workload{pause: 10 * time.Millisecond})
			frozen := startRelay(t, append(settings, fmt.Sprintf("RELAY_FAILPOINT=%s:20:stop", step)), "run")
			eventually(t, time.Minute, "the first relay publishes", func() bool { return laneSeq(t, url) > 5 })
			other := startRelay(t, settings, "run")
			other.AwaitLog(time.Minute, "lane taken over")
			after := laneSeq(t, url)
			eventually(t, time.Minute, "the second relay publishes", func() bool { return laneSeq(t, url) > after+5 })
			frozen.Resume()
			frozen.AwaitLog(time.Minute, "lane waits") // it has noticed
			load.stop()
			awaitPublished(t, load)
			frozen.Terminate()
			frozen.Wait(time.Minute)
			other.Terminate()
			other.Wait(time.Minute)
			finish(t, load, settings, topic)
		})
	}
}

// laneSeq is the sequence number of the last batch intended, 0 before the first.
func laneSeq(t testing.TB, url string) int64 {
	t.Helper()
	conn := connect(t, url)
	defer closeQuietly(conn)
	var seq int64
	err := conn.QueryRow(t.Context(), "SELECT coalesce(max(seq), 0) FROM relay_lanes").Scan(&seq)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// laneOwner is who took the lane over last, and how often it was taken over.
func laneOwner(t testing.TB, url string) (owner string, epoch int64) {
	t.Helper()
	conn := connect(t, url)
	defer closeQuietly(conn)
	err := conn.QueryRow(t.Context(), "SELECT owner, owner_epoch FROM relay_lanes").Scan(&owner, &epoch)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return owner, epoch
}

// Several relays run at once; whichever owns the lane is killed, again and again, and comes back.
func TestWithSeveralRelaysAnotherGoesOnWithinTheSessionTimeout(t *testing.T) {
	for _, replicas := range []int{2, 3} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			url := database(t)
			route, topic := routeOf(t)
			settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=200")
			load := startWorkload(t, url, 8, &workload{pause: 10 * time.Millisecond})
			relays := make([]*relayProcess, replicas)
			for i := range relays {
				relays[i] = startRelay(t, settings, "run")
			}
			eventually(t, time.Minute, "a relay publishes", func() bool { return laneSeq(t, url) > 5 })
			var slowest time.Duration
			for range 3 {
				owner, epoch := laneOwner(t, url)
				victim := ownerIndex(t, relays, owner)
				relays[victim].Kill()
				killed, seq := time.Now(), laneSeq(t, url)
				const sessionTimeout = 6 * time.Second
				eventually(t, sessionTimeout, "another relay goes on within the session timeout", func() bool {
					_, now := laneOwner(t, url)
					return now > epoch && laneSeq(t, url) > seq+2
				})
				slowest = max(slowest, time.Since(killed))
				relays[victim] = startRelay(t, settings, "run")
			}
			t.Logf("slowest of three failovers with %d relays: %v", replicas, slowest.Round(time.Millisecond))
			load.stop()
			awaitPublished(t, load)
			for _, r := range relays {
				r.Terminate()
				r.Wait(time.Minute)
			}
			finish(t, load, settings, topic)
		})
	}
}

// ownerIndex finds the relay that owner, host/pid/instance, names.
func ownerIndex(t testing.TB, relays []*relayProcess, owner string) int {
	t.Helper()
	for i, r := range relays {
		if strings.Contains(owner, fmt.Sprintf("/%d/", r.ID())) {
			return i
		}
	}
	t.Fatalf("no relay is the owner %q", owner)
	return 0
}

// Three relays, of which a random one is killed, paused, stopped in order or started, while writers write.
func TestRelaysComeAndGo(t *testing.T) {
	url := database(t)
	route, topic := routeOf(t)
	settings := relaySettings(t, url, brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := startWorkload(t, url, 8, &workload{pause: 10 * time.Millisecond})
	relays := make([]*relayProcess, 3)
	for i := range relays {
		relays[i] = startRelay(t, settings, "run")
	}
	for range 12 {
		i := rand.IntN(len(relays))
		before := laneSeq(t, url)
		switch rand.IntN(3) {
		case 0:
			relays[i].Kill()
			relays[i] = startRelay(t, settings, "run")
		case 1:
			relays[i].Terminate()
			if status := relays[i].Wait(time.Minute); status != 0 {
				t.Errorf("SIGTERM ended the relay with status %d", status)
			}
			relays[i] = startRelay(t, settings, "run")
		case 2:
			relays[i].Pause()
			eventually(t, time.Minute, "the others go on", func() bool { return laneSeq(t, url) > before+3 })
			relays[i].Resume()
		}
		eventually(t, time.Minute, "the lane goes on", func() bool { return laneSeq(t, url) > before+3 })
	}
	load.stop()
	awaitPublished(t, load)
	for _, r := range relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	finish(t, load, settings, topic)
}
