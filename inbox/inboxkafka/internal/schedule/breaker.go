package schedule

import (
	"context"
	"math/rand/v2"
	"time"
)

// breaker is a circuit breaker in front of the database. It is closed while the database is there.
// An error that says otherwise opens it: nothing begins and nothing is fetched, while the client
// goes on to send its heartbeats and to take part in rebalances. After a pause it is half-open and
// lets one trial through, whatever else is still in flight from before: that may hang on a
// connection that never answers. A success closes the breaker, and another such error opens it for
// twice as long. A message that failed a trial goes to the end of the line, so that the next trial
// is of another key; see Scheduler.Accuse. It belongs to the scheduler's lock.
type breaker struct {
	state  breakerState
	trial  bool      // a trial is in flight, and began lately
	round  int       // counts when trials were allowed
	since  time.Time // when it opened first; zero while it is closed
	healed time.Time // when it closed last
	pause  time.Duration
}

type breakerState int

const (
	closed breakerState = iota
	open
	halfOpen
)

// mostPause bounds a pause: one try now and then costs little, and the end of an outage is to be
// noticed soon.
const mostPause = 5 * time.Second

// blocks reports whether a job may not begin now.
func (b *breaker) blocks() bool { return b.state == open || b.state == halfOpen && b.trial }

// begin reports whether what begins now is a trial.
func (b *breaker) begin() (trial bool) {
	b.trial = b.trial || b.state == halfOpen
	return b.state == halfOpen
}

// trip opens the breaker and returns for how long. If it was closed for less than twice the last
// pause, the fault was not over: a database may answer while a handler goes on to say that
// something else is unavailable.
func (b *breaker) trip(least, most time.Duration) (pause time.Duration) {
	now := time.Now()
	if b.since.IsZero() && now.Sub(b.healed) > 2*b.pause {
		b.pause = least
	} else {
		b.pause = min(2*b.pause, most)
	}
	if b.since.IsZero() {
		b.since = now
	}
	b.state = open
	return Jitter(b.pause)
}

// Processed notes that a message was processed in a job of that turn.
func (s *Scheduler) Processed(turn int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = max(s.good, turn)
}

// Accuse notes that a handler has said of one message that something is unavailable, and reports
// whether it has to be its own fault: it has said so before, and a job that began after that has
// processed another message. In an outage no such job is: it opens the breaker, and the first one
// to be processed ends it. So one bad message makes the others wait for a moment and not for good,
// and an outage costs none of them an attempt.
func (s *Scheduler) Accuse(accused *int64) (refuted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refuted = *accused > 0 && s.good > *accused
	*accused = s.turn
	return refuted
}

// Trip opens the breaker, unless it is open, for a pause between least and most, which is mostPause
// at most. first is whether it was closed.
func (s *Scheduler) Trip(least, most time.Duration) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.breaker
	if b.state == open {
		return false
	}
	first = b.since.IsZero()
	pause := b.trip(least, max(least, min(most, mostPause)))
	s.options.After(pause, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		b.state = halfOpen
		s.allowTrials(pause)
	})
	return first
}

// Heal closes the breaker if it waits for a trial to succeed, and returns for how long it was not
// closed. handled is whether a handler was called. Queries of our own say nothing about what
// handlers need, so they close it only if no message is there to try it with.
func (s *Scheduler) Heal(handled bool) (lasted time.Duration, healed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.breaker
	if b.state != halfOpen || !handled && (b.trial || s.ready.len() > 0) {
		return 0, false
	}
	lasted = time.Since(b.since)
	b.state, b.since, b.healed = closed, time.Time{}, time.Now()
	s.wake()
	return lasted, true
}

// allowTrials lets a trial begin now, and another one after each pause while the breaker stays
// half-open. After a failover each trial may get one of many dead connections out of the pool, and
// wait for its time limit.
func (s *Scheduler) allowTrials(pause time.Duration) {
	s.breaker.trial = false
	s.breaker.round++
	s.wake()
	round := s.breaker.round
	s.options.After(max(pause, leastBetweenTrials), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.breaker.state == halfOpen && s.breaker.round == round && !s.draining {
			s.allowTrials(pause)
		}
	})
}

// leastBetweenTrials is how long a trial has at least before another one begins beside it.
const leastBetweenTrials = 500 * time.Millisecond

// AwaitBreaker waits until the breaker is not open.
func (s *Scheduler) AwaitBreaker(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeSlotsAfter(ctx)()
	for s.breaker.state == open && ctx.Err() == nil {
		s.slots.Wait()
	}
	return ctx.Err()
}

// Jitter takes up to half of a pause away, so that many that failed together do not come back
// together.
func Jitter(pause time.Duration) time.Duration {
	return pause - rand.N(pause/2+1)
}
