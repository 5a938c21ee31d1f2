package integration

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/victim"
)

// crashLoop is one run of consumers that end at every step.
type crashLoop struct {
	kills    int
	slots    int           // consumers at a time
	freezes  int           // how many of the kills are followed by a consumer that is frozen for longer than its session
	pause    time.Duration // between the transactions of the sender
	deadline time.Duration // for the kills, and for what is left after them
	batch    func() bool   // whether the next consumer takes many messages at once
	enough   func() bool   // ends the kills early; nil for never
}

func sometimes() bool { return rand.IntN(3) == 0 }

// run kills, while a relay and a sender produce, everything twice, and judges.
func (l crashLoop) run(t *testing.T) {
	c := newInboxCase(t, 6)
	route, relayed := routeOf(t)
	c.settings.Topics = append(c.settings.Topics, relayed)
	createTopic(t, c.bootstrap, relayed, 4)
	orders := database(t)
	name := uniqueName(t)
	load := startWorkload(t, orders, 2, &workload{pause: 3 * l.pause, accounts: 60})
	r := startRelay(t, relaySettings(t, orders, c.bootstrap, route, "RELAY_NAME="+name), "run")
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 80).start(l.pause)
	again := startRepeater(t, c.bootstrap, 300, c.settings.Topics...)

	began := time.Now()
	kills := l.killAll(t, c)
	t.Logf("%d kills at %d points in %v", kills.total, len(kills.at), time.Since(began).Round(time.Second))
	t.Logf("kills at each point: %v; %d consumers were frozen and woke up", kills.at, kills.frozen)
	load.stop()
	s.stop()
	awaitPublished(t, load)
	r.Terminate()
	r.Wait(30 * time.Second)
	sent := allDeliveries(s.sent, ofRelay(t, load, name))
	again.finish(len(sent))
	records := c.drain(l.deadline)
	t.Logf("%d transactions of the sender, %d aborted; %d of the relay's service", s.committed, s.aborted, load.committed.Load())
	requireTwice(t, sent, records)
	c.judgeEffects(sent, records).require(t)
}

// killed counts what was done to consumers.
type killed struct {
	total  int
	at     map[victim.Point]int
	frozen int
}

// killAll keeps some consumers running, each of which ends at a point, until there were enough kills.
func (l crashLoop) killAll(t *testing.T, c *inboxCase) killed {
	t.Helper()
	type slot struct {
		consumer *relayProcess
		point    victim.Point
		until    time.Time // a point that is not reached by then is not worth waiting for
	}
	done := killed{at: make(map[victim.Point]int)}
	points, next := victim.Points(), 0
	start := func() *slot {
		point := points[next%len(points)]
		next++
		consumer := c.start(fmt.Sprintf("%s:%d", point, 1+rand.IntN(12)), func(s *victim.Settings) {
			s.Batch, s.CrashLimit = l.batch(), -1 // the messages are not to blame
		})
		return &slot{consumer, point, time.Now().Add(20 * time.Second)}
	}
	slots := make([]*slot, l.slots)
	for i := range slots {
		slots[i] = start()
	}
	freezer := c.start("", func(s *victim.Settings) { s.CrashLimit = -1 })
	deadline := time.Now().Add(l.deadline)
	for done.total < l.kills && (l.enough == nil || !l.enough()) {
		if time.Now().After(deadline) {
			t.Fatalf("%d kills after %v", done.total, l.deadline)
		}
		for i, s := range slots {
			switch {
			case !s.consumer.Alive():
				if status := s.consumer.ExitCode(); status != -1 {
					t.Fatalf("a consumer ended with status %d before it reached %s", status, s.point)
				}
				done.total++
				done.at[s.point]++
				slots[i] = start()
			case time.Now().After(s.until):
				s.consumer.Kill()
				done.total++
				done.at["idle"]++
				slots[i] = start()
			}
		}
		if done.frozen < l.freezes*done.total/l.kills {
			freezer.Pause()
			wait(t.Context(), victimSession+time.Second)
			freezer.Resume()
			done.frozen++
		}
		wait(t.Context(), 20*time.Millisecond)
	}
	for _, s := range slots {
		s.consumer.Kill()
	}
	freezer.Kill()
	return done
}

// Consumers are killed with SIGKILL at every step of a message, while others come and go, and one is frozen until the group
// has given it up.
func TestConsumersKilledAtEveryStepEffectsHappenOnceAndInOrder(t *testing.T) {
	t.Parallel()
	crashLoop{kills: 16, slots: 3, freezes: 1, pause: 40 * time.Millisecond, batch: sometimes, deadline: 3 * time.Minute}.run(t)
}
