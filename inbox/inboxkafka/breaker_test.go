package inboxkafka

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// pausing is a consumer whose pauses end when the test says so.
type pausing struct {
	*Consumer
	fake   *fakeInbox
	pauses []time.Duration
	ends   []func()
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
	c.sched.after = func(d time.Duration, call func()) func() bool {
		g.pauses, g.ends = append(g.pauses, d), append(g.ends, call)
		return func() bool { return true }
	}
	return g
}

// add puts a message of its own key into the line.
func (g *pausing) add(t *testing.T, key string) {
	p := g.sched.partitions[topicPartition{topic, 0}]
	if p == nil {
		p = newPartition(t.Context(), topicPartition{topic, 0})
		g.sched.partitions[p.topicPartition] = p
	}
	p.held, g.sched.held = p.held+1, g.sched.held+1
	g.sched.release(p, []*item{{message: inbox.Message{Key: []byte(key)}, place: p.tracker.add(int64(p.tracker.window()), 0)}})
}

// pick returns the next job, or nil if none may begin.
func (g *pausing) pick() *job {
	g.sched.mu.Lock()
	defer g.sched.mu.Unlock()
	j := g.sched.pick(1)
	if j != nil {
		g.sched.begin(j)
	}
	return j
}

var errAway = inbox.Unavailable(errors.New("away"))

var done = []decision{{decided: true, result: inbox.Processed}}

// One trial ends a pause, even if a job from before hangs; until then nothing else begins.
func TestOneTrialEndsAPause(t *testing.T) {
	g := newPausing(t)
	for _, key := range []string{"hangs", "a", "b", "c"} {
		g.add(t, key)
	}
	if g.pick() == nil {
		t.Fatal("nothing begins although the breaker is closed")
	}
	g.unavailable(errAway)
	if g.pick() != nil || g.sched.allowance(1) != 0 {
		t.Fatal("work begins, or records are fetched, during a pause")
	}
	g.ends[0]()
	trial := g.pick()
	if trial == nil {
		t.Fatal("no trial begins after the pause, since a job hangs")
	}
	if g.pick() != nil {
		t.Fatal("a second job begins beside the trial")
	}
	g.unavailable(errAway)
	g.sched.finish(trial, []decision{{front: true}})
	g.ends[2]() // of the second pause; before it was the time that the trial had
	trial = g.pick()
	g.ends[3]()
	if g.pick() == nil {
		t.Fatal("no other trial begins although the first one takes long")
	}
	g.available(true)
	g.sched.finish(trial, done)
	if g.pick() == nil || !g.Stats().PausedSince.IsZero() {
		t.Fatal("nothing begins after the trial")
	}
}

// A query that succeeds does not end the pause of a handler that says something else is
// unavailable, as long as there is a message to try.
func TestOwnQueriesSayNothingAboutHandlers(t *testing.T) {
	g := newPausing(t)
	g.add(t, "a")
	g.unavailable(errAway)
	g.ends[0]()
	g.available(false)
	if g.Stats().PausedSince.IsZero() {
		t.Error("resumed without a trial")
	}
	g.sched.finish(g.pick(), done)
	g.available(false)
	if !g.Stats().PausedSince.IsZero() {
		t.Error("paused although nothing is there to try")
	}
}

// Pauses double up to the greatest, even if a success in between did not last; they start from the
// least again after one that did.
func TestPausesDouble(t *testing.T) {
	g := breaker{}
	var longest []time.Duration
	for range 3 {
		g.trip(time.Second, 4*time.Second)
		longest = append(longest, g.pause)
	}
	g.state, g.since, g.healed = closed, time.Time{}, time.Now()
	g.trip(time.Second, 4*time.Second)
	longest = append(longest, g.pause)
	g.state, g.since, g.healed = closed, time.Time{}, time.Now().Add(-time.Minute)
	if pause := g.trip(time.Second, 4*time.Second); pause < time.Second/2 || pause > time.Second {
		t.Errorf("a pause of %v, want half a second to one", pause)
	}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 4 * time.Second}
	if !slices.Equal(longest, want) {
		t.Errorf("pauses %v, want %v", longest, want)
	}
}

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
		i, at := &item{}, 0
		for n := 1; n <= 20 && at == 0; n++ {
			v := g.failed(i, fail, test.took)
			if i.parking != nil {
				at = n
				if !v.front || i.parking.cause != inbox.CauseAttempts || i.parking.attempts != n || !errors.Is(i.parking.why, fail) {
					t.Errorf("%s: decision %+v, parking %+v", test.name, v, i.parking)
				}
			} else if v.wait <= 0 {
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
	i := &item{}
	timeout := inbox.Outcome{Result: inbox.Failed, Err: inbox.ErrTimeout}
	fake := g.fake
	fake.setAway(true)
	if v := g.assess(t.Context(), i, timeout, 0); v.wait != 0 || i.attempts != 0 || g.Stats().PausedSince.IsZero() {
		t.Errorf("decision %+v, %d attempts", v, i.attempts)
	}
	fake.setAway(false)
	if v := g.assess(t.Context(), i, timeout, 0); v.front || i.attempts != 1 {
		t.Errorf("decision %+v, %d attempts", v, i.attempts)
	}
	// Nor is it an outage if every connection of the pool is in use: the inbox has seen that the
	// database answers.
	fake.mu.Lock()
	fake.away = context.DeadlineExceeded
	fake.mu.Unlock()
	if v := g.assess(t.Context(), i, timeout, 0); v.front || i.attempts != 2 {
		t.Errorf("no free connection: decision %+v, %d attempts", v, i.attempts)
	}
}

// raise is the decision on a message whose handler said that something is unavailable.
func (g *pausing) raise(t *testing.T, i *item) decision {
	t.Helper()
	i.raised = true
	return g.assess(t.Context(), i, inbox.Outcome{Result: inbox.Failed, Err: errAway}, 0)
}

// trial ends the pause, and returns the job that begins then.
func (g *pausing) trial(t *testing.T) *job {
	t.Helper()
	for _, end := range g.ends {
		end()
	}
	g.ends = nil
	j := g.pick()
	if j == nil {
		t.Fatal("no trial begins after the pause")
	}
	return j
}

// An outage costs no message an attempt, however often it is tried meanwhile. But what a message
// says after others were handled is its own failure.
func TestOnlyAMessageThatOthersRefuteHasFailed(t *testing.T) {
	g := newPausing(t)
	for _, key := range []string{"a", "b"} {
		g.add(t, key)
	}
	a := g.pick()
	for n := range 5 {
		v := g.raise(t, a.items[0])
		if v.wait != 0 || v.front || a.items[0].attempts != 0 || g.Stats().PausedSince.IsZero() {
			t.Fatalf("trial %d: decision %+v, %d attempts", n, v, a.items[0].attempts)
		}
		g.sched.finish(a, []decision{v})
		b := g.trial(t)
		if string(b.items[0].message.Key) != "b" {
			t.Fatal("the same key is tried twice in a row")
		}
		g.sched.finish(b, []decision{g.raise(t, b.items[0])})
		a = g.trial(t)
	}
	g.sched.finish(a, []decision{g.raise(t, a.items[0])})
	b := g.trial(t)
	g.sched.finish(b, []decision{g.assess(t.Context(), b.items[0], inbox.Outcome{Result: inbox.Processed}, 0)})
	a = g.pick()
	v := g.raise(t, a.items[0])
	if v.wait == 0 || a.items[0].attempts != 1 || !g.Stats().PausedSince.IsZero() {
		t.Fatalf("decision %+v, %d attempts, paused since %v; want a failure and no pause", v, a.items[0].attempts, g.Stats().PausedSince)
	}
	// That it was refuted once says nothing about the next outage.
	if v := g.raise(t, a.items[0]); v.wait != 0 || a.items[0].attempts != 1 {
		t.Fatalf("decision %+v, %d attempts", v, a.items[0].attempts)
	}
}

// What the inbox's own statements say is no failure of a message, whatever others say meanwhile.
func TestWhatNoHandlerSaidIsNeverAFailure(t *testing.T) {
	g := newPausing(t)
	i := &item{}
	for range 3 {
		v := g.assess(t.Context(), i, inbox.Outcome{Result: inbox.Failed, Err: errAway}, 0)
		g.sched.processed(1 << 40)
		if v.wait != 0 || i.attempts != 0 {
			t.Fatalf("decision %+v, %d attempts", v, i.attempts)
		}
	}
}

// A retry of a parked key has no two trials in a row either, as long as another key is there.
func TestARetryLeavesTheNextTrialToOthers(t *testing.T) {
	g := newPausing(t)
	g.add(t, "a")
	g.unavailable(errAway)
	g.ends[0]()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	taken, ok := g.sched.enter(ctx, slot{})
	if !ok || !taken.trial {
		t.Fatal("no slot for a trial")
	}
	g.sched.leave(taken)
	if g.sched.mayEnter(taken) {
		t.Error("the retry is tried twice in a row")
	}
	j := g.pick()
	if j == nil {
		t.Fatal("nothing else begins")
	}
	g.sched.finish(j, []decision{{}})
	if !g.sched.mayEnter(taken) {
		t.Error("the retry does not have its turn")
	}
}
