package inboxkafka

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// gate is open while the database is there. An error that says otherwise shuts it: nothing begins and nothing is fetched, while
// the client goes on to send its heartbeats and to take part in rebalances. After a pause it lets one trial through, whatever else is
// still in flight from before: that may hang on a connection that nobody answers. A success opens the gate, and another such
// error shuts it for twice as long. A message that failed a trial goes to the end of the line, so that the next trial is of another
// key; see scheduler.accuse. It belongs to the scheduler's lock.
type gate struct {
	state  gateState
	trial  bool      // a trial is in flight, and began lately
	round  int       // counts when trials were allowed
	since  time.Time // when it was shut first; zero while it is open
	opened time.Time // when it was opened last
	pause  time.Duration
}

type gateState int

const (
	open gateState = iota
	shut
	half
)

// mostPause bounds a pause: one try now and then costs little, and the end of an outage is to be noticed soon.
const mostPause = 5 * time.Second

// closed reports whether a job may not begin now.
func (g *gate) closed() bool { return g.state == shut || g.state == half && g.trial }

// begin reports whether what begins now is a trial.
func (g *gate) begin() (trial bool) {
	g.trial = g.trial || g.state == half
	return g.state == half
}

// shutFor shuts the gate and returns for how long. What was open for less than the last pause was not mended: a database
// may answer where a handler goes on to say that something else is away.
func (g *gate) shutFor(least, most time.Duration) (pause time.Duration) {
	now := time.Now()
	if g.since.IsZero() && now.Sub(g.opened) > 2*g.pause {
		g.pause = least
	} else {
		g.pause = min(2*g.pause, most)
	}
	if g.since.IsZero() {
		g.since = now
	}
	g.state = shut
	return jitter(g.pause)
}

// processed notes that a message was processed in a job of that turn.
func (s *scheduler) processed(turn int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = max(s.good, turn)
}

// accuse notes that a handler has said of one message that something is away, and reports whether it
// has to be its own fault: it has said so before, and a job that began after that has processed
// another message. In an outage no such job is: it shuts the gate, and the first one to
// be processed ends it. So one bad message makes the others wait for a moment and not for good, and
// an outage costs none of them an attempt.
func (s *scheduler) accuse(accused *int64) (refuted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuted = *accused > 0 && s.good > *accused
	*accused = s.turn
	return refuted
}

// unavailable shuts the gate, unless it is shut. A database that was away and is back is another matter.
func (c *Consumer) unavailable(err error) {
	if errors.Is(err, inboxloop.ErrForgotten) {
		c.forgotten()
		return
	}
	s := c.sched
	s.mu.Lock()
	g := &s.gate
	if g.state == shut {
		s.mu.Unlock()
		return
	}
	first := g.since.IsZero()
	pause := g.shutFor(c.cfg.BackoffMin, max(c.cfg.BackoffMin, min(c.cfg.BackoffMax, mostPause)))
	s.after(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		g.state = half
		s.allowTrials(pause)
	})
	s.mu.Unlock()
	switch {
	case first && errors.Is(err, inbox.ErrOwnStatement):
		c.log.Error("paused: the inbox cannot work with its tables; nothing is lost or parked, and it tries again", "error", err)
		c.hooks.paused(err)
	case first:
		c.log.Warn("paused: the database, or what a handler needs, is away; nothing is lost, and the group keeps this process", "error", err)
		c.hooks.paused(err)
	}
}

// allowTrials lets a trial begin now, and another one after each pause while the gate stays half open. After a failover each trial may
// get one of many dead connections out of the pool, and wait for its time limit.
func (s *scheduler) allowTrials(pause time.Duration) {
	s.gate.trial = false
	s.gate.round++
	s.wake()
	round := s.gate.round
	s.after(max(pause, leastBetweenTrials), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.gate.state == half && s.gate.round == round && !s.draining {
			s.allowTrials(pause)
		}
	})
}

// leastBetweenTrials is how long a trial has at least before another one begins beside it.
const leastBetweenTrials = 500 * time.Millisecond

// available opens the gate, where it waits for a trial to succeed. Queries of our own say nothing about what handlers need, so
// they open it only where no message is there to try it with.
func (c *Consumer) available(handled bool) {
	s := c.sched
	s.mu.Lock()
	g := &s.gate
	if g.state != half || !handled && (g.trial || s.ready.len() > 0) {
		s.mu.Unlock()
		return
	}
	lasted := time.Since(g.since)
	g.state, g.since, g.opened = open, time.Time{}, time.Now()
	s.wake()
	s.mu.Unlock()
	c.log.Info("resumed", "after", lasted)
	c.hooks.resumed(lasted)
}

// awaitGate waits until the gate is not shut.
func (s *scheduler) awaitGate(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slots.Broadcast()
	})()
	for s.gate.state == shut && ctx.Err() == nil {
		s.slots.Wait()
	}
	return ctx.Err()
}

// jitter takes up to half of a pause away, so that many that failed together do not come back together.
func jitter(pause time.Duration) time.Duration {
	return pause - rand.N(pause/2+1)
}

// backoff is the pause after so many failures.
func (c *Consumer) backoff(attempts int) time.Duration {
	pause := c.cfg.BackoffMin
	for ; attempts > 1 && pause < c.cfg.BackoffMax; attempts-- {
		pause *= 2
	}
	return jitter(min(pause, c.cfg.BackoffMax))
}
