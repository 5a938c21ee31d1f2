package schedule

import (
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// Snapshot is what a scheduler does and has done.
type Snapshot struct {
	Counts

	// What is held and in flight now, and since when the breaker is not closed.
	Held        int
	HeldBytes   int64
	InFlight    int
	PausedSince time.Time
	Partitions  []PartitionState
}

// Counts are of messages that are done, by their result; of those that were skipped because they
// had been done before; and of offsets that were deleted before they were read.
type Counts struct {
	Processed, Duplicates, Parked, Audited, Skipped, Deleted int64
}

// PartitionState is what a partition does: see inboxkafka.PartitionStats, which has the same
// fields.
type PartitionState struct {
	Topic                string
	Partition            int32
	Watermark, Committed int64
	Stable               int64
	Lag                  int64
	Progress             time.Time
	Held, Waiting        int
	Blocked              int
	BlockedSince         time.Time
	Oldest               time.Time
	Paused               bool
}

func (c *Counts) count(result inbox.Result) {
	switch result {
	case inbox.Processed:
		c.Processed++
	case inbox.Duplicate:
		c.Duplicates++
	case inbox.Parked:
		c.Parked++
	case inbox.Audited:
		c.Audited++
	}
}

// Snapshot may be called at any time.
func (s *Scheduler) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := Snapshot{
		Counts: s.counts, Held: s.held, HeldBytes: s.bytes, InFlight: s.inFlight, PausedSince: s.breaker.since,
	}
	for _, p := range s.partitions {
		state.Partitions = append(state.Partitions, s.stateOf(p))
	}
	return state
}

func (s *Scheduler) stateOf(p *Partition) PartitionState {
	state := PartitionState{
		Topic: p.Topic, Partition: p.Number, Watermark: s.reached(p), Committed: p.committed.Offset,
		Stable: p.stable, Lag: -1, Held: p.held, Paused: p.paused, Progress: p.assigned,
	}
	if p.moved.After(p.assigned) {
		state.Progress = p.moved
	}
	if state.Watermark >= 0 && state.Stable >= 0 {
		state.Lag = max(0, state.Stable-state.Watermark)
	}
	for q := range p.queues {
		if q.state == waiting {
			state.Waiting++
		}
		if !q.failing.IsZero() {
			state.Blocked++
			state.BlockedSince = earlier(state.BlockedSince, q.failing)
		}
		if len(q.items) > 0 {
			state.Oldest = earlier(state.Oldest, q.items[0].Message.Time)
		}
	}
	if len(p.incoming) > 0 {
		state.Oldest = earlier(state.Oldest, p.incoming[0].Message.Time)
	}
	return state
}

// earlier returns the earlier of two times; a zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
