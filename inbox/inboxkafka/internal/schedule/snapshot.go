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
	Held, Waiting        int
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
		Stable: p.stable, Lag: -1, Held: p.held, Paused: p.paused,
	}
	if state.Watermark >= 0 && state.Stable >= 0 {
		state.Lag = max(0, state.Stable-state.Watermark)
	}
	for q := range p.queues {
		if q.state == waiting {
			state.Waiting++
		}
	}
	return state
}
