package kafkatx

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/backoff"
)

// follow asks about transactions that have ended.
func (m *Markers) follow(ctx context.Context) {
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		select {
		case <-m.urgent:
		case <-time.After(askLater):
		case <-ctx.Done():
			return
		}
		for pause := askAgain; ; pause = min(2*pause, askAgainMost) {
			m.mu.Lock()
			all := m.following(false)
			m.mu.Unlock()
			if len(all) == 0 {
				m.reports.Unclosed(m.why())
				break
			}
			if m.ask(ctx, all) {
				pause = askAgain / 2
				continue
			}
			if pause == askAgainMost {
				m.reports.Unclosed(m.why())
			}
			if backoff.Sleep(ctx, pause) != nil {
				return
			}
		}
	}
}

// followStuck looks again at what could not be asked, for as long as there is something.
func (m *Markers) followStuck(ctx context.Context) {
	for {
		select {
		case <-m.slow:
		case <-ctx.Done():
			return
		}
		for {
			m.reports.Unclosed(m.why())
			m.mu.Lock()
			stuck, aside := m.following(true), slices.Clone(m.aside)
			m.mu.Unlock()
			if len(stuck)+len(aside) == 0 {
				break
			}
			if len(stuck) > 0 {
				m.ask(ctx, stuck)
			}
			m.askAside(ctx, aside)
			if backoff.Sleep(ctx, lookAgain) != nil {
				return
			}
		}
	}
}

// ask asks the coordinators whether transactions are over, and the partitions how far they are
// stable. A committed transaction is closed if its coordinator says that it is over and each of its
// partitions is stable beyond its records: both last, so the order of the answers is of no account.
// What is known of the others, look finds out. It reports whether anything is known that was not
// before.
func (m *Markers) ask(ctx context.Context, all []*ended) (progress bool) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	stable := make(chan map[Place]offset, 1)
	go func() { stable <- m.stable(limited, all) }()
	over := m.over(ctx, all)
	// A broker that does not answer holds up its own partitions only.
	patience := time.AfterFunc(stableLimit, cancel)
	defer patience.Stop()
	if len(over) == 0 {
		cancel()
	}
	passed := <-stable
	rest := make([]*ended, 0, len(over))
	for _, e := range over {
		if !e.passed(passed) {
			rest = append(rest, e)
		}
	}
	if len(rest) < len(over) {
		progress = true
		m.closed(over, rest)
	}
	if len(rest) > 0 && ctx.Err() == nil {
		progress = m.lookAtRest(ctx, rest) || progress
	}
	return progress
}

// stable asks the partitions of committed transactions for their last stable offsets.
func (m *Markers) stable(ctx context.Context, all []*ended) map[Place]offset {
	places := make(Partitions)
	for _, e := range all {
		if e.commit {
			places.merge(e.places)
		}
	}
	return offsets(ctx, m.client, places, committed)
}

// passed reports whether all records of a committed transaction are below the last stable offsets
// of their partitions, which they are only once its markers are on all in-sync replicas. Of an
// aborted one that says nothing: records that were not acknowledged may lie behind its end.
func (e *ended) passed(stable map[Place]offset) bool {
	if !e.commit {
		return false
	}
	for place, end := range e.ends {
		if last, ok := stable[place]; !ok || last.err != nil || end == 0 || last.offset < end {
			return false
		}
	}
	return true
}

// closed frees the ids of those transactions that are not in rest.
func (m *Markers) closed(over, rest []*ended) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range over {
		if !slices.Contains(rest, e) {
			m.release(e)
		}
	}
	m.broadcast()
}

// lookAtRest asks the partitions of transactions that are over whether they have their markers. The
// coordinator was asked before: a marker that is seen before its transaction is over may still be
// lost with its leader.
func (m *Markers) lookAtRest(ctx context.Context, over []*ended) (progress bool) {
	places, ends := make(Partitions), make(map[Place]int64)
	for _, e := range over {
		for place, end := range e.ends {
			ends[place] = max(ends[place], end)
		}
		places.merge(e.places)
	}
	seen := m.look(ctx, places, ends)
	if ctx.Err() != nil {
		return false
	}
	for _, o := range seen.Open {
		if slices.ContainsFunc(over, o.isOf) && m.stillOpen(ctx, o) {
			m.leftOpen(o)
			return false
		}
	}
	return m.note(over, seen)
}

// over returns the transactions of which their coordinators say that they are over.
func (m *Markers) over(ctx context.Context, all []*ended) (over []*ended) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	ids := make([]string, len(all))
	for i, e := range all {
		ids[i] = e.id
	}
	states, err := m.coordinators.Ask(limited, ids...)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		m.log.Debug("coordinators of transactions do not answer", "error", err)
	}
	for _, e := range all {
		if state, ok := states[e.id]; ok && state.State.Decided() && e.knownIn(state) {
			over = append(over, e)
		}
	}
	return over
}

// knownIn reports whether what a coordinator says is about this transaction or a later one. A
// broker that was the coordinator, and does not know yet that another one is, tells of an earlier
// one.
func (e *ended) knownIn(state Coordinated) bool {
	return state.ProducerID != e.ProducerID || state.Epoch > e.Epoch
}

// lookSettled asks until what is seen is on all in-sync replicas, for tellAfter at most.
func (m *Markers) lookSettled(ctx context.Context, places Partitions) Seen {
	began := time.Now()
	for pause := askAgain; ; pause = min(2*pause, askAgainMost) {
		seen := m.look(ctx, places, nil)
		unsettled := false
		for _, cause := range seen.Unseen {
			unsettled = unsettled || errors.Is(cause, ErrUnsettled)
		}
		if !unsettled || time.Since(began) > tellAfter || backoff.Sleep(ctx, pause) != nil {
			return seen
		}
	}
}

func (m *Markers) look(ctx context.Context, places Partitions, ends map[Place]int64) Seen {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return Look(ctx, m.client, places, ends)
}

// isOf reports whether what is open is the transaction that has ended. The id may be in use again
// if that one only waits for a partition that cannot be asked.
func (o Open) isOf(e *ended) bool { return o.ProducerID == e.ProducerID && o.Epoch == e.Epoch }

// stillOpen looks again: the first answer may be that of a leader that was replaced meanwhile.
func (m *Markers) stillOpen(ctx context.Context, o Open) bool {
	if backoff.Sleep(ctx, askAgainMost) != nil {
		return false
	}
	seen := m.look(ctx, Partitions{o.Topic: {o.Partition}}, nil)
	return slices.ContainsFunc(seen.Open, func(p Open) bool { return p.ProducerID == o.ProducerID && p.Start == o.Start })
}

// note frees the ids whose transactions are closed, and remembers what could not be asked.
func (m *Markers) note(over []*ended, seen Seen) (progress bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range over {
		var stuck map[string]error
		unsettled := false
		for place, cause := range seen.Unseen {
			switch {
			case !slices.Contains(e.places[place.Topic], place.Partition):
			case errors.Is(cause, ErrUnsettled) && time.Since(e.at) < tellAfter:
				unsettled = true
			default:
				if stuck == nil {
					stuck = make(map[string]error)
				}
				stuck[place.Topic] = cannotAsk(place, cause)
			}
		}
		open := unsettled || slices.ContainsFunc(seen.Open, func(o Open) bool { return o.isOf(e) })
		switch {
		case stuck != nil:
			progress = progress || e.stuck == nil
			e.stuck = stuck
			nudge(m.slow)
		case !open:
			progress = true
			m.release(e)
		}
	}
	m.broadcast()
	return progress
}

// release frees the id of a transaction. The caller holds the lock.
func (m *Markers) release(e *ended) {
	for _, s := range m.states {
		if s.ended == e {
			s.ended = nil
		}
	}
}

// askAside looks again at the topics of transactions whose ids are in use again.
func (m *Markers) askAside(ctx context.Context, aside []unseen) {
	for _, u := range aside {
		cause := m.closedEverywhere(ctx, u)
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		i := slices.IndexFunc(m.aside, u.same)
		switch {
		case i < 0:
		case cause == nil, errors.Is(cause, kerr.UnknownTopicOrPartition) && time.Since(u.since) > forgetAfter:
			m.aside = slices.Delete(m.aside, i, i+1)
		default:
			m.aside[i].cause = cause
		}
		m.mu.Unlock()
	}
}

// closedEverywhere returns nil if a transaction is seen to be closed on all of its topics, or why
// it is not. One that is left open is the end of the session.
func (m *Markers) closedEverywhere(ctx context.Context, u unseen) error {
	seen, err := m.lookAt(ctx, u.Topics...)
	if err != nil {
		return err
	}
	for _, o := range seen.Open {
		if o.ProducerID == u.ProducerID && o.Epoch == u.Epoch {
			m.leftOpen(o)
		}
	}
	for place, cause := range seen.Unseen {
		return cannotAsk(place, cause)
	}
	return nil
}

// lookAt asks all partitions of topics.
func (m *Markers) lookAt(ctx context.Context, topics ...string) (Seen, error) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	partitions, missing, err := PartitionsOf(limited, m.client, topics...)
	if err != nil {
		return Seen{}, err
	}
	seen := m.lookSettled(ctx, partitions)
	for place, cause := range missing {
		seen.Unseen[place] = cause
	}
	return seen, nil
}

// Clear is asked before the session writes to topics. It returns those that may not be written to
// yet, and why. A transaction of an earlier session that was left open there ends the session.
func (m *Markers) Clear(ctx context.Context, topics []string) (map[string]error, error) {
	seen, err := m.lookAt(ctx, topics...)
	if err != nil {
		return nil, err
	}
	blocked := make(map[string]error)
	for place, cause := range seen.Unseen {
		blocked[place.Topic] = cannotAsk(place, cause)
	}
	for _, o := range seen.Open {
		if m.earlier(o) {
			m.leftOpen(o)
			return nil, ErrLeftOpen
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.aside = slices.DeleteFunc(m.aside, func(u unseen) bool {
		return slices.Contains(topics, u.Topics[0]) && blocked[u.Topics[0]] == nil
	})
	return blocked, nil
}

// earlier reports whether an open transaction is none of those that are followed: it is that of an
// earlier session, or of an id that is in use again.
func (m *Markers) earlier(o Open) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.ContainsFunc(m.aside, func(u unseen) bool { return u.ProducerID == o.ProducerID && u.Epoch == o.Epoch }) {
		return true
	}
	epoch, ours := m.fenced[o.ProducerID]
	return ours && o.Epoch < epoch
}
