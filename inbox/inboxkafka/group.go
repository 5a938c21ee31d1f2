package inboxkafka

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The group tells of partitions in three callbacks, which the client never runs at once, and never
// between a poll and its AllowRebalance. While one runs, heartbeats go on, and so does work on
// partitions that stay.
//
// What may happen beside them, and why no offset is committed of a partition that has another
// owner:
//
//   - A commit on its interval takes the lock of commits, computes the watermarks and keeps the
//     lock until the answer is there. revoked closes the partition, which stops what begins, then
//     waits for what is in flight, then takes that lock: a commit before it is complete, and a
//     later one finds the partition closed. Only then does the callback return, and only then does
//     the client tell the group, which gives the partition to somebody else.
//   - lost comes when the group has dropped this member: somebody else may own the partitions
//     already. Nothing is waited for and nothing committed. A commit under way carries the old
//     member id and generation, which the broker refuses.
//   - The client may rejoin as a new member without any of the callbacks, when the group has
//     forgotten the old one during a join; what it no longer gets is revoked afterwards. A commit
//     that waited for this join would carry the new identity, so a commit is given up if the member
//     is not the one that the partitions were assigned to (see offsets.Committer).
//   - A handler that a closed partition has in flight beyond the deadline may still commit its
//     transaction, after the next owner has begun with the same message. One of both writes the
//     mark; the other waits for it and finds a duplicate.
//
// And if all of this failed: an offset that is committed says only that all before it is decided,
// in the database, which is true whichever process says it. A stale commit could set the group
// back, never ahead.

// assigned begins with new partitions. It is called at each rebalance, also with none.
func (c *Consumer) assigned(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
	member, _ := client.GroupMetadata()
	begun := c.sched.Assign(member, partitions)
	// Paused partitions stay paused in the client, also those that went and come back. A pause of the
	// old one that is being decided right now comes before.
	c.balancing.Lock()
	client.ResumeFetchPartitions(partitions)
	c.balancing.Unlock()
	for _, p := range begun {
		c.log.Info("partition assigned", "topic", p.Topic, "partition", p.Number)
		c.hooks.assigned(p)
		go c.takeIn(p)
	}
}

// revoked ends work on partitions in good order.
func (c *Consumer) revoked(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
	gone := c.close(partitions, false)
	if len(gone) == 0 {
		return
	}
	c.drainPartitions(gone, c.cfg.DrainTimeout)
	c.commits.Commit(client, gone)
	c.closeSessions(gone)
	c.forget(gone, false)
}

// lost ends work on partitions that somebody else may have already.
func (c *Consumer) lost(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
	gone := c.close(partitions, true)
	if len(gone) == 0 {
		return
	}
	for _, p := range gone {
		p.Stop()
	}
	c.drainPartitions(gone, 0)
	c.closeSessions(gone)
	c.forget(gone, true)
}

// close lets nothing of the partitions begin.
func (c *Consumer) close(partitions map[string][]int32, lost bool) (gone []*schedule.Partition) {
	for topic, numbers := range partitions {
		for _, n := range numbers {
			if p := c.sched.Find(schedule.TopicPartition{Topic: topic, Number: n}); p != nil {
				c.sched.Close(p, lost)
				gone = append(gone, p)
			}
		}
	}
	return gone
}

// drainPartitions waits for what is in flight; after the timeout it ends their context, and waits a
// little longer for handlers to notice it.
func (c *Consumer) drainPartitions(gone []*schedule.Partition, timeout time.Duration) {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for _, p := range gone {
		select {
		case <-p.Drained:
		case <-limit.C:
			limit.Reset(0)
			p.Stop()
		case <-c.handling.Done():
		}
	}
	last := time.NewTimer(abandonTimeout)
	defer last.Stop()
	for _, p := range gone {
		p.Stop()
		select {
		case <-p.Drained:
		case <-last.C:
			last.Reset(0)
			c.log.Warn("messages are still in flight; what they do not commit is handled again by the next owner",
				"topic", p.Topic, "partition", p.Number)
		}
		select {
		case <-p.IntakeDone:
		case <-last.C:
			last.Reset(0) // a call of the database hangs; what it was for is let go of when it ends
		}
	}
}

// forget takes partitions out.
func (c *Consumer) forget(gone []*schedule.Partition, lost bool) {
	for _, p := range gone {
		c.sched.Remove(p)
		c.log.Info("partition gone", "topic", p.Topic, "partition", p.Number, "lost", lost)
		c.hooks.revoked(p, lost)
	}
	c.balance(false)
}

// closeSessions says of partitions that this process ended its work on them without a crash. If the
// database is unavailable the next owner takes it for a crash, and is only slower.
func (c *Consumer) closeSessions(gone []*schedule.Partition) {
	ctx, cancel := context.WithTimeout(context.Background(), sessionTimeout)
	defer cancel()
	for _, p := range gone {
		if err := c.store.Close(ctx, p.Topic, p.Number); err != nil {
			c.log.Warn("cannot close the session of a partition; its next owner begins its messages with care",
				"topic", p.Topic, "partition", p.Number, "error", err)
		}
	}
}

const (
	// abandonTimeout is how long handlers have once their context has ended. The inbox itself gives
	// them one second, then cuts their connection.
	abandonTimeout = 3 * time.Second
	// sessionTimeout bounds the goodbye to the database.
	sessionTimeout = 3 * time.Second
)
