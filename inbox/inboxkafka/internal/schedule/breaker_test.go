package schedule

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// breaking is a scheduler whose pauses end when the test says so.
type breaking struct {
	*Scheduler
	ends []func()
}

func newBreaking(t *testing.T) *breaking {
	g := &breaking{}
	options := optionsOf(t, 1000)
	options.After = func(_ time.Duration, call func()) func() bool {
		g.ends = append(g.ends, call)
		return func() bool { return true }
	}
	g.Scheduler = New(options)
	g.Assign("", map[string][]int32{someTopic: {0}})
	return g
}

// pause opens the breaker.
func (g *breaking) pause() { g.Trip(time.Second, 8*time.Second) }

func (g *breaking) paused() bool { return !g.Snapshot().PausedSince.IsZero() }

// add puts a message with its own key into the line.
func (g *breaking) add(key string) {
	p := g.partitions[TopicPartition{someTopic, 0}]
	g.Admit(p.TopicPartition, []*Item{{Message: inbox.Message{Key: []byte(key)}}}, 0, 0)
	g.Release(p, g.Arrivals(p, 1))
}

// next returns the next job, or nil if none may begin.
func (g *breaking) next() *Job {
	g.mu.Lock()
	defer g.mu.Unlock()
	j := g.pick(1)
	if j != nil {
		g.begin(j)
	}
	return j
}

var done = []Decision{{Decided: true, Result: inbox.Processed}}

// One trial ends a pause, even if a job from before hangs; until then nothing else begins.
func TestOneTrialEndsAPause(t *testing.T) {
	g := newBreaking(t)
	for _, key := range []string{"hangs", "a", "b", "c"} {
		g.add(key)
	}
	if g.next() == nil {
		t.Fatal("nothing begins although the breaker is closed")
	}
	g.pause()
	if g.next() != nil || g.allowance(1) != 0 {
		t.Fatal("work begins, or records are fetched, during a pause")
	}
	g.ends[0]()
	trial := g.next()
	if trial == nil {
		t.Fatal("no trial begins after the pause, since a job hangs")
	}
	if g.next() != nil {
		t.Fatal("a second job begins beside the trial")
	}
	g.pause()
	g.Finish(trial, []Decision{{Front: true}})
	g.ends[2]() // of the second pause; before it was the time that the trial had
	trial = g.next()
	g.ends[3]()
	if g.next() == nil {
		t.Fatal("no other trial begins although the first one takes long")
	}
	g.Heal(true)
	g.Finish(trial, done)
	if g.next() == nil || g.paused() {
		t.Fatal("nothing begins after the trial")
	}
}

// A query that succeeds does not end the pause of a handler that says something else is
// unavailable, as long as there is a message to try.
func TestOwnQueriesSayNothingAboutHandlers(t *testing.T) {
	g := newBreaking(t)
	g.add("a")
	g.pause()
	g.ends[0]()
	g.Heal(false)
	if !g.paused() {
		t.Error("resumed without a trial")
	}
	g.Finish(g.next(), done)
	g.Heal(false)
	if g.paused() {
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

// A retry of a parked key has no two trials in a row either, as long as another key is there.
func TestARetryLeavesTheNextTrialToOthers(t *testing.T) {
	g := newBreaking(t)
	g.add("a")
	g.pause()
	g.ends[0]()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	taken, ok := g.Enter(ctx, Slot{})
	if !ok || !taken.trial {
		t.Fatal("no slot for a trial")
	}
	g.Leave(taken)
	if g.mayEnter(taken) {
		t.Error("the retry is tried twice in a row")
	}
	j := g.next()
	if j == nil {
		t.Fatal("nothing else begins")
	}
	g.Finish(j, []Decision{{}})
	if !g.mayEnter(taken) {
		t.Error("the retry does not have its turn")
	}
}
