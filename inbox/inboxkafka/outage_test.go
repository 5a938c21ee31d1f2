package inboxkafka

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/outbox-relay/relay/inbox"
)

// pausing is a consumer whose pauses end when the test says so.
type pausing struct {
	*Consumer
	fake *fakeInbox
	sent int64
	ends []func()
}

func newPausing(t *testing.T) *pausing {
	t.Helper()
	fake := newFakeInbox()
	c, err := settings{Handler: nothing, Config: Config{
		Brokers: []string{"127.0.0.1:1"}, Topics: []string{topic}, BackoffMin: time.Second, BackoffMax: 8 * time.Second,
	}}.open(fake)
	if err != nil {
		t.Fatal(err)
	}
	g := &pausing{Consumer: c, fake: fake}
	options := c.schedule()
	options.After = func(_ time.Duration, call func()) func() bool {
		g.ends = append(g.ends, call)
		return func() bool { return true }
	}
	c.sched = schedule.New(options)
	c.sched.Assign("", map[string][]int32{topic: {0}})
	return g
}

// add puts a message into the line.
func (g *pausing) add(m inbox.Message) {
	p := g.sched.Find(schedule.TopicPartition{Topic: topic, Number: 0})
	m.Topic = topic
	g.sched.Admit(schedule.TopicPartition{Topic: topic, Number: 0}, []*schedule.Item{{Message: m, Offset: g.sent}}, 0, 0)
	g.sched.Release(p, g.sched.Arrivals(p, 1))
	g.sent++
}

var errAway = inbox.Unavailable(errors.New("away"))

// A message is parked for attempts or for time, whichever comes first; never while it is not to
// blame.
func TestWhenAMessageIsParked(t *testing.T) {
	g := newPausing(t)
	fail := errors.New("no")
	for _, test := range []struct {
		name        string
		attempts    int
		limit, took time.Duration
		parked      int // at which failure
	}{
		{"attempts", 4, 0, 0, 4},
		{"time", -1, time.Minute, 20 * time.Second, 3},
		{"one attempt", 1, 0, 0, 1},
		{"never", -1, 0, time.Hour, 0},
	} {
		g.cfg.Attempts, g.cfg.AttemptsFor, g.cfg.BackoffMin, g.cfg.BackoffMax = test.attempts, test.limit, 2, 2
		i, at := &schedule.Item{}, 0
		for n := 1; n <= 20 && at == 0; n++ {
			v := g.failed(i, fail, test.took)
			if i.Parking != nil {
				at = n
				if !v.Front || i.Parking.Cause != inbox.CauseAttempts || i.Parking.Attempts != n || !errors.Is(i.Parking.Why, fail) {
					t.Errorf("%s: decision %+v, parking %+v", test.name, v, i.Parking)
				}
			} else if v.Wait <= 0 {
				t.Errorf("%s: the key does not wait after failure %d", test.name, n)
			}
		}
		if at != test.parked {
			t.Errorf("%s: parked at failure %d, want %d", test.name, at, test.parked)
		}
	}
}

// A handler that hangs since the database does not answer is not to blame.
func TestTimeoutWhileTheDatabaseIsAwayIsNoFailure(t *testing.T) {
	g := newPausing(t)
	i := &schedule.Item{}
	timeout := inbox.Outcome{Result: inbox.Failed, Err: inbox.ErrTimeout}
	fake := g.fake
	fake.setAway(true)
	if v := g.assess(t.Context(), i, timeout, 0); v.Wait != 0 || i.Attempts != 0 || g.Stats().PausedSince.IsZero() {
		t.Errorf("decision %+v, %d attempts", v, i.Attempts)
	}
	fake.setAway(false)
	if v := g.assess(t.Context(), i, timeout, 0); v.Front || i.Attempts != 1 {
		t.Errorf("decision %+v, %d attempts", v, i.Attempts)
	}
	// Nor is it an outage if every connection of the pool is in use: the inbox has seen that the
	// database answers.
	fake.mu.Lock()
	fake.away = context.DeadlineExceeded
	fake.mu.Unlock()
	if v := g.assess(t.Context(), i, timeout, 0); v.Front || i.Attempts != 2 {
		t.Errorf("no free connection: decision %+v, %d attempts", v, i.Attempts)
	}
}

// raise is the decision on a message whose handler said that something is unavailable.
func (g *pausing) raise(t *testing.T, i *schedule.Item) schedule.Decision {
	t.Helper()
	i.Raised = true
	return g.assess(t.Context(), i, inbox.Outcome{Result: inbox.Failed, Err: errAway}, 0)
}

// trial ends the pause, and returns the job that begins then.
func (g *pausing) trial() *schedule.Job {
	for _, end := range g.ends {
		end()
	}
	g.ends = nil
	return g.sched.Take(1)
}

// An outage costs no message an attempt, however often it is tried meanwhile. But what a message
// says after others were handled is its own failure.
func TestOnlyAMessageThatOthersRefuteHasFailed(t *testing.T) {
	g := newPausing(t)
	for _, key := range []string{"a", "b"} {
		g.add(inbox.Message{Key: []byte(key)})
	}
	a := g.sched.Take(1)
	for n := range 5 {
		v := g.raise(t, a.Items[0])
		if v.Wait != 0 || v.Front || a.Items[0].Attempts != 0 || g.Stats().PausedSince.IsZero() {
			t.Fatalf("trial %d: decision %+v, %d attempts", n, v, a.Items[0].Attempts)
		}
		g.sched.Finish(a, []schedule.Decision{v})
		b := g.trial()
		if string(b.Items[0].Message.Key) != "b" {
			t.Fatal("the same key is tried twice in a row")
		}
		g.sched.Finish(b, []schedule.Decision{g.raise(t, b.Items[0])})
		a = g.trial()
	}
	g.sched.Finish(a, []schedule.Decision{g.raise(t, a.Items[0])})
	b := g.trial()
	g.sched.Finish(b, []schedule.Decision{g.assess(t.Context(), b.Items[0], inbox.Outcome{Result: inbox.Processed}, 0)})
	a = g.sched.Take(1)
	v := g.raise(t, a.Items[0])
	if v.Wait == 0 || a.Items[0].Attempts != 1 || !g.Stats().PausedSince.IsZero() {
		t.Fatalf("decision %+v, %d attempts, paused since %v; want a failure and no pause", v, a.Items[0].Attempts, g.Stats().PausedSince)
	}
	// That it was refuted once says nothing about the next outage.
	if v := g.raise(t, a.Items[0]); v.Wait != 0 || a.Items[0].Attempts != 1 {
		t.Fatalf("decision %+v, %d attempts", v, a.Items[0].Attempts)
	}
}

// What the inbox's own statements say is no failure of a message, whatever others say meanwhile.
func TestWhatNoHandlerSaidIsNeverAFailure(t *testing.T) {
	g := newPausing(t)
	i := &schedule.Item{}
	for range 3 {
		v := g.assess(t.Context(), i, inbox.Outcome{Result: inbox.Failed, Err: errAway}, 0)
		g.sched.Processed(1 << 40)
		if v.Wait != 0 || i.Attempts != 0 {
			t.Fatalf("decision %+v, %d attempts", v, i.Attempts)
		}
	}
}
