package inbox

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/integration/victim"
)

// memberships are the lines in which a consumer says who it is in its group.
func memberships(p *kit.RelayProcess) (lines []string) {
	for line := range bytes.Lines(p.Stderr()) {
		if bytes.HasPrefix(line, []byte("member ")) {
			lines = append(lines, strings.TrimSpace(string(line)))
		}
	}
	return lines
}

// members are the ids of the group's members, as the broker has them; none while it cannot say.
func (c *inboxCase) members() (ids []string) {
	c.t.Helper()
	groups, err := kadm.NewClient(kit.KafkaClient(c.t, c.bootstrap)).DescribeGroups(c.t.Context(), c.settings.Consumer)
	if err != nil {
		c.t.Logf("describe the group: %v", err)
		return nil
	}
	for _, m := range groups[c.settings.Consumer].Members {
		ids = append(ids, m.MemberID)
	}
	slices.Sort(ids)
	return ids
}

// The database crashes and stays away, and later on hangs without a word. Consumers stay in their
// group, as the same members of the same generation, lose nothing, and go on by themselves.
func TestTheDatabaseIsAwayAndConsumersStayInTheirGroup(t *testing.T) {
	t.Parallel()
	databaseAway(t, 3*time.Second)
}

// databaseAway takes the database away for so long each time, and judges.
func databaseAway(t *testing.T, away time.Duration) {
	server, _ := kit.OwnPostgres(t)
	empty, err := server.CreateDatabase(t.Context(), "consumer")
	if err != nil {
		t.Fatal(err)
	}
	g, through := newGate(t, empty)
	c := inboxCaseOn(t, empty, kit.Brokers(t), kit.Topic(t, 4))
	c.settings.DatabaseURL, c.settings.HandlerTimeout, c.settings.Backoff = through, time.Second, 200*time.Millisecond
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 50)
	consumers := []*kit.RelayProcess{c.start(""), c.start("", takesMany)}
	kit.Eventually(t, 30*time.Second, "both are members of one generation", func() bool {
		return len(c.members()) == 2 && sameGeneration(consumers)
	})
	s.start(30 * time.Millisecond)
	c.awaitEffects(100, 30*time.Second)
	members, generations := c.members(), [][]string{memberships(consumers[0]), memberships(consumers[1])}

	for _, outage := range []struct {
		name   string
		strike func()
	}{
		{"crashed", func() {
			if err := server.Kill(); err != nil {
				t.Fatal(err)
			}
			kit.Wait(t.Context(), away)
			if err := server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		{"hanging", func() {
			g.shut()
			kit.Wait(t.Context(), away)
			g.open()
		}},
		{"replaced by another host", g.replace},
	} {
		outage.strike()
		mended := time.Now()
		c.awaitEffects(100, 30*time.Second)
		t.Logf("%s: went on %v after it was back", outage.name, time.Since(mended).Round(10*time.Millisecond))
	}
	if now := c.members(); !slices.Equal(now, members) {
		t.Errorf("the members were %v and are %v", members, now)
	}
	for i, consumer := range consumers {
		if now := memberships(consumer); !slices.Equal(now, generations[i]) {
			t.Errorf("consumer %d went through %v", i, now)
		}
	}
	s.stop()
	records := c.drain(time.Minute, consumers...)
	c.judgeEffects(s.sent, records).require(t)
	if n := c.parkedKeys(); n > 0 {
		t.Errorf("%d keys were parked because of the outage", n)
	}
}

// sameGeneration reports whether all consumers say that they are in the same generation.
func sameGeneration(consumers []*kit.RelayProcess) bool {
	var generation string
	for _, p := range consumers {
		lines := memberships(p)
		if len(lines) == 0 {
			return false
		}
		_, of, _ := strings.Cut(lines[len(lines)-1], " generation ")
		if generation != "" && of != generation {
			return false
		}
		generation = of
	}
	return true
}

// A handler hangs: its key waits, and all others go on. SIGTERM ends the consumer in time even so,
// whether the handler looks at its context or not, and none of its effect is left in the database.
func TestAHandlerThatHangsHoldsItsKeyOnlyAndNoShutdown(t *testing.T) {
	for _, kind := range []string{victim.Hang, victim.Deaf} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newInboxCase(t, 1)
			c.settings.HandlerTimeout, c.settings.DrainTimeout = time.Minute, time.Second
			s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 10)
			c.poison(s.key(4), 2, kind)
			for range 20 {
				s.transaction([]string{s.key(0), s.key(1), s.key(2), s.key(3), s.key(4), s.key(5)}, true)
			}
			consumer := c.start("")
			kit.Eventually(t, 30*time.Second, "all others go on", func() bool { return c.effects() == 5*20+1 })
			began := time.Now()
			consumer.Terminate()
			status := consumer.Wait(10 * time.Second)
			t.Logf("ended with status %d after %v, with 1 s to drain", status, time.Since(began).Round(10*time.Millisecond))
			kit.Execute(t, c.url, "DELETE FROM poison")
			records := c.drain(time.Minute)
			c.judgeEffects(s.sent, records).require(t)
		})
	}
}

// The answers to COMMIT and to the mark are lost, again and again: what was committed is not done
// twice, and what was not is done.
func TestLostAnswersDoubleNothing(t *testing.T) {
	t.Parallel()
	c := newInboxCase(t, 4)
	c.settings.Backoff = 100 * time.Millisecond
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 60)
	again := startRepeater(t, c.bootstrap, 100, c.settings.Topics...)
	s.start(20 * time.Millisecond)
	var consumers []*kit.RelayProcess
	for i, point := range []victim.Point{victim.AfterCommit, victim.BeforeCommit, victim.AfterAccept, victim.BeforeAccept} {
		consumers = append(consumers, c.start(fmt.Sprintf("%s:%d:%s", point, 5+2*i, victim.Cut), func(s *victim.Settings) { s.Batch = i == 0 }))
	}
	c.awaitEffects(800, time.Minute)
	s.stop()
	again.finish(len(s.sent))
	ends, _ := c.ends()
	c.awaitCommitted(ends, time.Minute)
	cuts := 0
	for _, p := range consumers {
		n := bytes.Count(p.Stderr(), []byte("failpoint "))
		if n == 0 {
			t.Error("a consumer lost no answer")
		}
		cuts += n
	}
	records := c.drain(time.Minute, consumers...)
	t.Logf("%d connections were cut", cuts)
	requireTwice(t, s.sent, records)
	c.judgeEffects(s.sent, records).require(t)
	if n := c.parkedKeys(); n > 0 {
		t.Errorf("%d keys were parked because of lost answers", n)
	}
}

// A consumer is frozen in the middle of a message: its transaction stays open, with the mark and
// with locks on rows. It is never woken, and its key goes on all the same, on another consumer.
func TestAConsumerThatIsFrozenForGoodHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := newInboxCase(t, 1)
	c.settings.HandlerTimeout = 2 * time.Second
	s := newSender(t, c.bootstrap, c.settings.Topics[0], "stock", 10)
	for range 20 {
		s.transaction([]string{s.key(0), s.key(1), s.key(2), s.key(3)}, true)
	}
	frozen := c.start("inside-effect:30:" + victim.Freeze)
	frozen.AwaitLog(30*time.Second, "failpoint ")
	other := c.start("")
	kit.Eventually(t, 30*time.Second, "every message has its effect", func() bool { return c.effects() == len(s.sent) })
	frozen.Resume()
	records := c.drain(time.Minute, other, frozen)
	c.judgeEffects(s.sent, records).require(t)
}
