package inbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
)

// crashLoop is one run of consumers that end at every step.
type crashLoop struct {
	kills    int
	most     int           // messages of the sender; 0 for no end
	slots    int           // consumers at a time
	pause    time.Duration // between the transactions of the sender
	deadline time.Duration // for the kills, and for what is left after them
	batch    func() bool   // whether the next consumer takes many messages at once
	enough   func() bool   // ends the kills early; nil for never
}

func sometimes() bool { return rand.IntN(3) == 0 }

// run kills, while a relay and a sender produce, everything twice, and judges.
func (l crashLoop) run(t *testing.T) {
	c := newInboxCase(t, 6)
	route, relayed := kit.RouteOf(t)
	c.settings.Topics = append(c.settings.Topics, relayed)
	kit.CreateTopic(t, c.bootstrap, relayed, 4)
	orders := kit.Database(t)
	name := kit.UniqueName(t)
	load := kit.StartWorkload(t, orders, 2, &kit.Workload{Pause: 3 * l.pause, Accounts: 60})
	r := kit.StartRelay(t, kit.RelaySettings(t, orders, c.bootstrap, route, "RELAY_NAME="+name), "run")
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 80)
	s.most = l.most
	s.start(l.pause)
	again := startRepeater(t, c.bootstrap, 300, c.settings.Topics...)

	began := time.Now()
	kills := l.killAll(t, c)
	t.Logf("%d kills at %d points in %v", kills.total, len(kills.at), time.Since(began).Round(time.Second))
	t.Logf("kills at each point: %v; frozen until the group had given them up, and woken: %v", kills.at, kills.woken)
	load.Stop()
	s.stop()
	kit.AwaitPublished(t, load)
	r.Terminate()
	r.Wait(30 * time.Second)
	sent := allDeliveries(s.sent, ofRelay(t, load, name))
	again.finish(len(sent))
	records := c.drain(l.deadline)
	t.Logf("%d transactions of the sender, %d aborted; %d of the relay's service", s.committed, s.aborted, load.Committed.Load())
	requireTwice(t, sent, records)
	c.judgeEffects(sent, records).require(t)
}

// killed counts what was done to consumers.
type killed struct {
	total int
	at    map[victim.Point]int
	woken map[victim.Point]int // frozen at a point for longer than the group waits, and woken
}

// slot is the place of one consumer that ends at a point, or is frozen there, woken and killed.
type slot struct {
	consumer *kit.RelayProcess
	point    victim.Point
	freezes  bool
	wakes    time.Time // once it is frozen
	until    time.Time // a point that is not reached by then is not worth waiting for
}

// idle and awake stand for points where a consumer was killed at no point in particular.
const (
	idle  victim.Point = "idle"
	awake victim.Point = "awake again"
)

// killAll keeps some consumers running, each of which ends at a point, until there were enough
// kills. Each fifth is frozen there first, until the group has given it up and others have its
// partitions.
func (l crashLoop) killAll(t *testing.T, c *inboxCase) killed {
	t.Helper()
	done := killed{at: make(map[victim.Point]int), woken: make(map[victim.Point]int)}
	starts := rand.IntN(50)
	slots := make([]*slot, l.slots)
	for i := range slots {
		slots[i] = l.start(c, starts+i)
	}
	starts += l.slots
	for deadline := time.Now().Add(l.deadline); done.total < l.kills && (l.enough == nil || !l.enough()); {
		if time.Now().After(deadline) {
			t.Fatalf("%d kills after %v", done.total, l.deadline)
		}
		for i, s := range slots {
			if s.ended(&done) {
				slots[i] = l.start(c, starts)
				starts++
			}
		}
		kit.Wait(t.Context(), 20*time.Millisecond)
	}
	for _, s := range slots {
		s.consumer.Kill()
	}
	return done
}

// start starts the n-th consumer.
func (l crashLoop) start(c *inboxCase, n int) *slot {
	c.t.Helper()
	points := victim.Points()
	s := &slot{point: points[n%len(points)], freezes: n/len(points)%5 == n%5, until: time.Now().Add(20 * time.Second)}
	action := victim.Kill
	if s.freezes {
		action = victim.Freeze
	}
	s.consumer = c.start(fmt.Sprintf("%s:%d:%s", s.point, 1+rand.IntN(12), action), func(settings *victim.Settings) {
		settings.Batch, settings.CrashLimit = l.batch(), -1 // the messages are not to blame
		settings.SQL = n%2 == 1                             // both kinds of services share a group
	})
	return s
}

// ended reports whether the consumer of a slot has been killed, after it has woken one that was
// frozen for long enough.
func (s *slot) ended(done *killed) bool {
	t := s.consumer.T
	t.Helper()
	switch now := time.Now(); {
	case !s.consumer.Alive():
		if status := s.consumer.ExitCode(); status != -1 {
			t.Fatalf("a consumer ended with status %d before it reached %s", status, s.point)
		}
	case s.freezes && s.wakes.IsZero() && bytes.Contains(s.consumer.Stderr(), []byte("failpoint ")):
		s.wakes = now.Add(victimSession + time.Second)
		return false
	case s.freezes && !s.wakes.IsZero() && now.After(s.wakes):
		s.consumer.Resume()
		done.woken[s.point]++
		s.point, s.freezes, s.until = awake, false, now.Add(time.Second)
		return false
	case now.After(s.until) && s.wakes.IsZero():
		s.consumer.Kill()
		s.point = idle
	case now.After(s.until) && !s.freezes:
		s.consumer.Kill()
	default:
		return false
	}
	done.total++
	done.at[s.point]++
	return true
}

// Consumers are killed with SIGKILL at every step of a message, while others come and go, and some
// are frozen there until the group has given them up.
func TestConsumersKilledAtEveryStepEffectsHappenOnceAndInOrder(t *testing.T) {
	t.Parallel()
	crashLoop{kills: 16, most: 5000, slots: 3, pause: 40 * time.Millisecond, batch: sometimes, deadline: 3 * time.Minute}.run(t)
}
