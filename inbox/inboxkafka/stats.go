package inboxkafka

import "time"

// Stats is a snapshot of what a Consumer does and has done since it was made, for metrics.
type Stats struct {
	// Group is the consumer group.
	Group string

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

	// Commits and CommitsFailed count offsets that were committed, or were not.
	Commits, CommitsFailed int64

	// ParkedKeys are keys with parked messages, of all processes and topics of this consumer, as they
	// were counted at ParkedRead, some seconds ago; 10,000 of them at most are counted. ParkedSince
	// is when the first of them was parked. ParkedRead is zero before the first count.
	ParkedKeys              int64
	ParkedSince, ParkedRead time.Time

	// Pauses counts how often the consumer has paused. PausedSince is since when the consumer pauses; zero if it does not.
	Pauses      int64
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

	// Progress is when Watermark moved last; before that, when the partition was assigned.
	Progress time.Time

	// Held is how many of its records are in this process. Waiting is how many keys wait after a
	// failure, or for a retry of what is parked before.
	Held, Waiting int

	// Blocked is how many keys have a first message that has failed and is not done yet, and
	// BlockedSince when the first of them failed first; zero if there is none.
	Blocked      int
	BlockedSince time.Time

	// Oldest is the time of the oldest record in this process; zero if there is none.
	Oldest time.Time

	// Paused is whether nothing is fetched, since enough is held.
	Paused bool
}

// Stats returns a snapshot. It may be called at any time.
func (c *Consumer) Stats() Stats {
	s := c.sched.Snapshot()
	stats := Stats{
		Group: c.cfg.Group, Commits: c.commitsDone.Load(), CommitsFailed: c.commitsFailed.Load(), Pauses: c.pauses.Load(),
		Processed: s.Processed, Duplicates: s.Duplicates, Parked: s.Parked, Audited: s.Audited, Skipped: s.Skipped,
		Failures: c.failures.Load(), Retried: c.retries.Load(), RetriesFailed: c.retriesFailed.Load(), Deleted: s.Deleted,
		Held: s.Held, HeldBytes: s.HeldBytes, InFlight: s.InFlight, PausedSince: s.PausedSince,
	}
	if parked := c.parked.Load(); parked != nil {
		stats.ParkedKeys, stats.ParkedSince, stats.ParkedRead = parked.keys, parked.since, parked.read
	}
	for _, p := range s.Partitions {
		stats.Partitions = append(stats.Partitions, PartitionStats(p))
	}
	return stats
}
