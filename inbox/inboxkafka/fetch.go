package inboxkafka

import (
	"context"
	"errors"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/identity"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/twmb/franz-go/pkg/kgo"
)

// fetch polls and hands out records until ctx ends.
//
// A rebalance may come at any moment. Were it to run between a poll and the moment its records are
// entered, records of a partition that was revoked could be entered into the same partition
// assigned again: behind others that are not here yet, which the watermark would pass. So the
// client blocks rebalances from a poll that returned records until AllowRebalance
// (kgo.BlockRebalanceOnPoll), which comes as soon as they are entered, not when they are handled;
// and it drops what it holds of revoked partitions itself. While nothing is polled, since enough is
// held or the database is unavailable, nothing blocks a rebalance, and heartbeats come from another
// goroutine of the client.
func (c *Consumer) fetch(ctx context.Context) {
	defer c.client.AllowRebalance()
	for {
		most := c.awaitRoom(ctx)
		if c.sched.Rewinding() && ctx.Err() == nil {
			c.rewind(ctx)
			continue
		}
		if most == 0 {
			return
		}
		polling, stop := c.sched.PollContext(ctx)
		fetches := c.client.PollRecords(polling, most)
		stop()
		if ctx.Err() == nil {
			c.enter(fetches)
			fetches.EachError(func(_ string, _ int32, err error) {
				if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
					c.passTooLarge(large)
				}
			})
		}
		c.client.AllowRebalance()
		c.reportErrors(ctx, fetches)
		if fetches.IsClientClosed() {
			return
		}
	}
}

// awaitRoom waits until records may be polled, and returns how many; 0 is the end.
func (c *Consumer) awaitRoom(ctx context.Context) int {
	for {
		most, stuck := c.sched.AwaitRoom(ctx, c.largest)
		if !stuck {
			return most
		}
		c.balance(true)
	}
}

// enter hands what was polled to its partitions.
func (c *Consumer) enter(fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}
		items := make([]*schedule.Item, len(f.Records))
		for n, r := range f.Records {
			items[n] = c.newItem(r)
			items[n].Offset, items[n].Epoch = r.Offset, r.LeaderEpoch
			c.largest = max(c.largest*15/16, items[n].Bytes)
		}
		from, gone := c.sched.Admit(schedule.TopicPartition{Topic: f.Topic, Number: f.Partition}, items, f.LogStartOffset,
			f.LastStableOffset)
		c.reportDeleted(f.Topic, f.Partition, from, gone)
	})
}

func (c *Consumer) newItem(r *kgo.Record) *schedule.Item {
	if r.Attrs.IsControl() {
		return &schedule.Item{Marker: true, Bytes: itemOverhead}
	}
	m, err := identity.Of(r, c.cfg.Identify)
	i := &schedule.Item{Message: m, Unidentified: err, Bytes: int64(len(r.Key) + len(r.Value) + itemOverhead)}
	for _, h := range r.Headers {
		i.Bytes += int64(len(h.Key) + len(h.Value))
	}
	return i
}

// itemOverhead is about what a record takes besides its bytes.
const itemOverhead = 512

// reportErrors tells of what a person should know. The client goes on by itself with whatever it
// can.
func (c *Consumer) reportErrors(ctx context.Context, fetches kgo.Fetches) {
	fetches.EachError(func(topic string, partition int32, err error) {
		if ctx.Err() != nil || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) {
			return
		}
		if _, ok := errors.AsType[*kgo.ErrGroupSession](err); ok {
			return // clientlog.Group tells of it
		}
		if errors.Is(err, kgo.ErrMaxDecompress) {
			return // passTooLarge tells of it
		}
		if lost, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
			c.log.Error("the topic has lost records that this group had not read yet, or the log was cut back",
				"topic", topic, "partition", partition, "error", lost)
		} else {
			c.log.Warn("fetch failed; it is tried again", "topic", topic, "partition", partition, "error", err)
		}
		c.hooks.fetchError(topic, partition, err)
	})
}

// balance stops fetching from partitions that are stuck and hold too much, and goes on with those
// that do not any more.
//
// It is not done lightly: the client throws away what it has of a paused partition and fetches it
// once more, and a partition that is resumed waits for the fetch that is under way without it. So
// partitions are paused only if polls have waited for room for a while, and never one that only has
// much to do.
func (c *Consumer) balance(waited bool) {
	// Two at once could tell the client the older decision last.
	c.balancing.Lock()
	defer c.balancing.Unlock()
	pause, resume := c.sched.Balance(waited)
	if len(pause) > 0 {
		c.client.PauseFetchPartitions(pause)
	}
	if len(resume) > 0 {
		c.client.ResumeFetchPartitions(resume)
	}
}
