package inboxkafka

import (
	"context"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/offsets"
	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/internal/transact"

	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// With synchronous_commit = off, or a standby that lags, a crash takes the last commits away,
// effects and marks together, while this process goes on and remembers their messages as done.
// Three things keep such a message from being passed, or overtaken:
//
//   - Every transaction that decides a message looks whether the database is in the incarnation
//     that the partition began in (inbox.Inbox.Bind). So nothing is decided after a crash as if
//     there had been none: a later message of a key cannot come before an earlier one that was
//     forgotten.
//   - An offset is committed only after a flush in that same incarnation. It speaks for all that
//     was decided before it.
//   - The goroutine that finds that the incarnation has ended calls forgotten. Nothing begins from
//     then on, and the goroutine that fetches rewinds: each partition begins once more at the first
//     position that no flush has spoken for, as if it had just been assigned. What has its mark is
//     skipped, and what has not is handled again, in order.
//
// What is in flight meanwhile belongs to the old partition: it can decide nothing any more, and
// what becomes of it does not matter.

// rewind begins every partition once more in the incarnation that the database is in now. It runs
// on the goroutine that polls, so that no records from before it are entered after it.
func (c *Consumer) rewind(ctx context.Context) {
	rewinds := c.sched.CountRewind()
	// If a name stands for two servers that both take writes, one incarnation follows the other.
	if rewinds > 1 && transact.Pause(ctx, c.backoff(rewinds)) != nil {
		return
	}
	var now inboxloop.Incarnation
	err := c.persist(ctx, "read the incarnation of the database", func(ctx context.Context) (err error) {
		now, err = c.store.Incarnation(ctx)
		return err
	})
	if err != nil {
		return // ctx has ended
	}
	// A poll with a context that has ended returns at once, and blocks rebalances until
	// AllowRebalance.
	ended, end := context.WithCancel(ctx)
	end()
	c.client.PollRecords(ended, 1)
	defer c.client.AllowRebalance()
	c.commits.Lock()
	defer c.commits.Unlock()
	begun := c.sched.Rewind(now)
	from := offsets.Map{}
	for _, p := range begun {
		at, known := p.Since()
		if known {
			from.Add(p.TopicPartition, at)
		}
		c.log.Warn("Postgres crashed or failed over; what was handled since the last flush is looked up, and handled "+
			"again if it was forgotten", "topic", p.Topic, "partition", p.Number, "from", at.Offset)
	}
	c.client.SetOffsets(from)
	c.resume(begun)
	for _, p := range begun {
		go c.takeIn(p)
	}
}

// resume has the client fetch partitions that the old ones had paused.
func (c *Consumer) resume(begun []*schedule.Partition) {
	numbers := map[string][]int32{}
	for _, p := range begun {
		numbers[p.Topic] = append(numbers[p.Topic], p.Number)
	}
	c.balancing.Lock()
	defer c.balancing.Unlock()
	c.client.ResumeFetchPartitions(numbers)
}
