package relay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// An owner is paused at the worst moments, another relay takes over, and the first one wakes up
// with a transaction open and, at before-end, with its intent written and its commit about to be
// sent.
func TestAPausedOwnerThatWakesPublishesNothing(t *testing.T) {
	for _, step := range []pipeline.Step{pipeline.AfterRead, pipeline.AfterProduce, pipeline.AfterFlush, pipeline.BeforeIntent, pipeline.BeforeEnd} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			url := kit.Database(t)
			route, topic := kit.RouteOf(t)
			settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=100")
			load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 10 * time.Millisecond})
			frozen := kit.StartRelay(t, append(settings, fmt.Sprintf("RELAY_FAILPOINT=%s:20:stop", step)), "run")
			kit.Eventually(t, time.Minute, "the first relay publishes", func() bool { return kit.LaneSeq(t, url) > 5 })
			other := kit.StartRelay(t, settings, "run")
			other.AwaitLog(time.Minute, "lane taken over")
			after := kit.LaneSeq(t, url)
			kit.Eventually(t, time.Minute, "the second relay publishes", func() bool { return kit.LaneSeq(t, url) > after+5 })
			frozen.Resume()
			frozen.AwaitLog(time.Minute, "lane waits") // it has noticed
			load.Stop()
			kit.AwaitPublished(t, load)
			frozen.Terminate()
			frozen.Wait(time.Minute)
			other.Terminate()
			other.Wait(time.Minute)
			kit.Finish(t, load, settings, topic)
		})
	}
}

// Several relays run at once; whichever owns the lane is killed, again and again, and comes back.
// Of the times until another goes on the shortest counts: on a busy machine any may be long.
func TestWithSeveralRelaysAnotherGoesOnWithinTheSessionTimeout(t *testing.T) {
	for _, replicas := range []int{2, 3} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			url := kit.Database(t)
			route, topic := kit.RouteOf(t)
			settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200")
			load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 4), &kit.Workload{Pause: 10 * time.Millisecond})
			relays := make([]*kit.RelayProcess, replicas)
			for i := range relays {
				relays[i] = kit.StartRelay(t, settings, "run")
			}
			kit.Eventually(t, time.Minute, "a relay publishes", func() bool { return kit.LaneSeq(t, url) > 5 })
			var took []time.Duration
			for range 3 {
				owner, epoch := kit.LaneOwner(t, url)
				victim := kit.OwnerIndex(t, relays, owner)
				relays[victim].Kill()
				killed, seq := time.Now(), kit.LaneSeq(t, url)
				kit.Eventually(t, time.Minute, "another relay goes on", func() bool {
					_, now := kit.LaneOwner(t, url)
					return now > epoch && kit.LaneSeq(t, url) > seq+2
				})
				took = append(took, time.Since(killed))
				relays[victim] = kit.StartRelay(t, settings, "run")
			}
			t.Logf("failovers with %d relays took %v", replicas, took)
			const sessionTimeout = 6 * time.Second
			if slices.Min(took) > sessionTimeout {
				t.Errorf("no failover was within the session timeout of %v", sessionTimeout)
			}
			load.Stop()
			kit.AwaitPublished(t, load)
			for _, r := range relays {
				r.Terminate()
				r.Wait(time.Minute)
			}
			kit.Finish(t, load, settings, topic)
		})
	}
}

// Three relays, of which a random one is killed, paused, stopped in order or started, while writers
// write.
func TestRelaysComeAndGo(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_BATCH_ROWS=200")
	load := kit.StartWorkload(t, url, kit.NumberOf(t, "RELAY_TEST_WRITERS", 4), &kit.Workload{Pause: 10 * time.Millisecond})
	relays := make([]*kit.RelayProcess, 3)
	for i := range relays {
		relays[i] = kit.StartRelay(t, settings, "run")
	}
	for range 12 {
		i := rand.IntN(len(relays))
		before := kit.LaneSeq(t, url)
		switch rand.IntN(3) {
		case 0:
			relays[i].Kill()
			relays[i] = kit.StartRelay(t, settings, "run")
		case 1:
			relays[i].AwaitLog(time.Minute, "relay starts") // before that, SIGTERM ends a process at once
			relays[i].Terminate()
			if status := relays[i].Wait(time.Minute); status != 0 {
				t.Errorf("SIGTERM ended the relay with status %d", status)
			}
			relays[i] = kit.StartRelay(t, settings, "run")
		case 2:
			relays[i].Pause()
			kit.Eventually(t, time.Minute, "the others go on", func() bool { return kit.LaneSeq(t, url) > before+3 })
			relays[i].Resume()
		}
		kit.Eventually(t, time.Minute, "the lane goes on", func() bool { return kit.LaneSeq(t, url) > before+3 })
	}
	load.Stop()
	kit.AwaitPublished(t, load)
	for _, r := range relays {
		r.Terminate()
		r.Wait(time.Minute)
	}
	kit.Finish(t, load, settings, topic)
}
