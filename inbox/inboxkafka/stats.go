package inboxkafka

import (
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// Stats is a snapshot of what a Consumer does and has done since it was made, for metrics.
type Stats struct {
	// Processed, Duplicates, Parked and Audited count messages that are done, by their result.
	// Skipped are duplicates that were looked up before they were handled; they are not among
	// Duplicates.
	Processed, Duplicates, Parked, Audited, Skipped int64

	// Failures counts calls that failed and are tried again.
	Failures int64

	// Retried counts parked messages that were handled since somebody asked for it, and RetriesFailed
	// those that failed again.
	Retried, RetriesFailed int64

	// Deleted counts offsets that the brokers deleted before this group read them. Some may have been
	// markers of transactions, which are no messages.
	Deleted int64

	// Held and HeldBytes are the records in this process, waiting or in flight.
	Held      int
	HeldBytes int64

	// InFlight is how many transactions run right now.
	InFlight int

	// PausedSince is since when the consumer pauses; zero if it does not.
	PausedSince time.Time

	// Partitions are those that this process works on.
	Partitions []PartitionStats
}

// PartitionStats is a snapshot of one partition.
type PartitionStats struct {
	Topic     string
	Partition int32

	// Watermark is the offset up to which all is done, -1 while that is not known; before anything
	// was done it is where the group stands. Committed is the one that this process has committed, -1
	// if it has not since the partition was assigned.
	Watermark, Committed int64

	// Stable is the partition's last stable offset when it was heard of last: the end of what can be
	// read. -1 before that.
	Stable int64

	// Lag is how many offsets lie between the two, 0 once all that can be read is done, -1 while one
	// of them is not known. Offsets of markers and of records of aborted transactions count until
	// they are passed.
	Lag int64

	// Held is how many of its records are in this process. Waiting is how many keys wait after a
	// failure.
	Held, Waiting int

	// Paused is whether nothing is fetched, since enough is held.
	Paused bool
}

func (s *Stats) count(result inbox.Result) {
	switch result {
	case inbox.Processed:
		s.Processed++
	case inbox.Duplicate:
		s.Duplicates++
	case inbox.Parked:
		s.Parked++
	case inbox.Audited:
		s.Audited++
	}
}

// Stats returns a snapshot. It may be called at any time.
func (c *Consumer) Stats() Stats { return c.sched.snapshot() }

// count changes the counters.
func (s *scheduler) count(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

func (s *scheduler) snapshot() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Held, stats.HeldBytes, stats.InFlight, stats.PausedSince = s.held, s.bytes, s.inFlight, s.breaker.since
	for _, p := range s.partitions {
		stats.Partitions = append(stats.Partitions, s.snapshotOf(p))
	}
	return stats
}

func (s *scheduler) snapshotOf(p *partition) PartitionStats {
	stats := PartitionStats{
		Topic: p.topic, Partition: p.number, Watermark: s.reached(p), Committed: p.committed.offset,
		Stable: p.stable, Lag: -1, Held: p.held, Paused: p.paused,
	}
	if stats.Watermark >= 0 && stats.Stable >= 0 {
		stats.Lag = max(0, stats.Stable-stats.Watermark)
	}
	for q := range p.queues {
		if q.state == waiting {
			stats.Waiting++
		}
	}
	return stats
}
