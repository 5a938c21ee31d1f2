package inboxkafka

import (
	"context"
	"math/rand/v2"
	"time"
)

// gate is open while the database is there. An error that says otherwise shuts it: nothing begins and nothing is fetched, while
// the client goes on to send its heartbeats and to take part in rebalances. After a pause it lets one job through; a success opens it, and
// another such error shuts it for twice as long. It belongs to the scheduler's lock.
type gate struct {
	state gateState
	since time.Time // when it was shut first
	pause time.Duration
	// before is how many jobs were in flight when it let one through: those may hang on a connection that is dead.
	before int
}

type gateState int

const (
	open gateState = iota
	shut
	half
)

// closedFor reports whether a job may not begin while so many are in flight.
func (g *gate) closedFor(inFlight int) bool {
	return g.state == shut || g.state == half && inFlight > g.before
}

// unavailable shuts the gate. It returns whether it was open.
func (c *Consumer) unavailable(err error) {
	s := c.sched
	s.mu.Lock()
	g := &s.gate
	if g.state == shut {
		s.mu.Unlock()
		return
	}
	first := g.since.IsZero()
	if first {
		g.since, g.pause = time.Now(), c.cfg.BackoffMin
	} else {
		g.pause = min(2*g.pause, c.cfg.BackoffMax)
	}
	g.state = shut
	time.AfterFunc(jitter(g.pause), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if g.state == shut {
			g.state, g.before = half, s.inFlight
			s.wake()
		}
	})
	s.mu.Unlock()
	if first {
		c.log.Warn("paused: the database, or what a handler needs, is away; nothing is lost, and the group keeps this process", "error", err)
		c.hooks.paused(err)
	}
}

// available opens the gate, where the trial that it let through succeeded.
func (c *Consumer) available() {
	s := c.sched
	s.mu.Lock()
	g := &s.gate
	if g.state != half {
		s.mu.Unlock()
		return
	}
	lasted := time.Since(g.since)
	g.state, g.since, g.pause = open, time.Time{}, 0
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
