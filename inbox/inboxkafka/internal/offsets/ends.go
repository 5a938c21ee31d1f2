package offsets

import (
	"context"
	"log/slog"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/twmb/franz-go/pkg/kadm"
)

// asksEvery is how many intervals of commits lie between two questions for the ends of the
// partitions.
const asksEvery = 10

// Ends asks the brokers where partitions begin and end, so that the lag is known, and what was
// deleted before it was read.
type Ends struct {
	Sched    *schedule.Scheduler
	Admin    *kadm.Client
	Topics   []string
	Interval time.Duration // of commits
	Log      *slog.Logger

	// Buffered is how many records the client holds that were not polled yet.
	Buffered func() int64

	// Deleted is told of offsets that were deleted before they were read.
	Deleted func(at schedule.TopicPartition, from, gone int64)
}

// Run asks the brokers where the partitions end until ctx ends. What is fetched says so too,
// but the client says nothing about a fetch that brings nothing, and nothing is fetched while the
// consumer pauses.
func (e *Ends) Run(ctx context.Context) {
	ticker := time.NewTicker(e.Interval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if regular := n%asksEvery == 0; regular || e.Sched.EndMissing() {
			e.read(ctx, regular)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// read asks once. If there is no answer, what is known stays. A regular question looks for what was
// deleted, too.
func (e *Ends) read(ctx context.Context, regular bool) {
	limited, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	starts, err := e.Admin.ListStartOffsets(limited, e.Topics...)
	if err == nil {
		var ends kadm.ListedOffsets
		if ends, err = e.Admin.ListCommittedOffsets(limited, e.Topics...); err == nil {
			nothingHeld := e.Buffered() == 0
			for _, p := range e.Sched.Assigned() {
				e.Sched.SetEnds(p, listed(starts, p), listed(ends, p))
				if regular && nothingHeld {
					if from, gone := e.Sched.Unreadable(p); gone > 0 {
						e.Deleted(p, from, gone)
					}
				}
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		e.Log.Debug("the ends of the partitions are not known; the lag may be old", "error", err)
	}
}

// listed is what was listed for a partition, -1 if there is nothing.
func listed(offsets kadm.ListedOffsets, at schedule.TopicPartition) int64 {
	if o, found := offsets.Lookup(at.Topic, at.Number); found && o.Err == nil {
		return o.Offset
	}
	return -1
}
