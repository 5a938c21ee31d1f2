package inboxkafka

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// asksEvery is how many intervals of commits lie between two questions for the ends of the
// partitions.
const asksEvery = 10

// lagLoop asks the brokers where the partitions end until ctx ends. What is fetched says so too,
// but the client says nothing about a fetch that brings nothing, and nothing is fetched while the
// consumer pauses.
func (c *Consumer) lagLoop(ctx context.Context, admin *kadm.Client) {
	ticker := time.NewTicker(c.cfg.CommitInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%asksEvery == 0 || c.sched.EndMissing() {
			c.readEnds(ctx, admin)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// readEnds asks once. If there is no answer, what is known stays.
func (c *Consumer) readEnds(ctx context.Context, admin *kadm.Client) {
	limited, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	starts, err := admin.ListStartOffsets(limited, c.cfg.Topics...)
	if err == nil {
		var ends kadm.ListedOffsets
		if ends, err = admin.ListCommittedOffsets(limited, c.cfg.Topics...); err == nil {
			for _, p := range c.sched.Assigned() {
				c.sched.SetEnds(p, listed(starts, p), listed(ends, p))
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		c.log.Debug("the ends of the partitions are not known; the lag may be old", "error", err)
	}
}

// atStart reports whether a group without an offset begins at the start of the log.
func atStart(o kgo.Offset) bool {
	return o.EpochOffset().Offset == kgo.NewOffset().AtStart().EpochOffset().Offset
}

// listed is what was listed for a partition, -1 if there is nothing.
func listed(offsets kadm.ListedOffsets, at schedule.TopicPartition) int64 {
	if o, found := offsets.Lookup(at.Topic, at.Number); found && o.Err == nil {
		return o.Offset
	}
	return -1
}
