package inboxkafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// With synchronous_commit = off, or a standby that lags, a crash takes the last commits away, effects and marks together, while this
// process goes on and remembers their messages as done. Three things keep such a message from being passed, or overtaken:
//
//   - Every transaction that decides a message looks whether the database is in the incarnation that the partition began in
//     (inbox.Inbox.Bind). So nothing is decided after a crash as if there had been none: a later message of a key cannot come before an
//     earlier one that was forgotten.
//   - An offset is committed only after a flush in that same incarnation. It speaks for all that was decided before it.
//   - Whoever finds that the incarnation has ended calls forgotten. Nothing begins from then on, and the goroutine that fetches rewinds:
//     each partition begins once more at the first position that no flush has spoken for, as if it had just been assigned. What has its
//     mark is skipped, and what has not is handled again, in order.
//
// What is in flight meanwhile belongs to the old partition: it can decide nothing any more, and nobody looks at what becomes of it.

// newPartition returns a partition that begins now.
func (c *Consumer) newPartition(at place) *partition {
	p := newPartition(c.store.Bind(c.handling, c.sched.incarnation), at)
	p.incarnation = c.sched.incarnation
	return p
}

// flushed notes what a flush has spoken for.
func (c *Consumer) flushed(marks offsets, partitions map[place]*partition) {
	c.sched.mu.Lock()
	defer c.sched.mu.Unlock()
	for at, p := range partitions {
		mark := marks[at.topic][at.number]
		p.from = position{mark.Offset, mark.Epoch}
	}
	c.sched.rewinds = 0
}

// forgotten has what may be forgotten read once more.
func (c *Consumer) forgotten() {
	s := c.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rewinding {
		return
	}
	s.rewinding = true
	if s.stopPoll != nil {
		s.stopPoll()
	}
	s.wake()
}

func (s *scheduler) toRewind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rewinding
}

// pollContext is the context of a poll, which forgotten ends.
func (s *scheduler) pollContext(ctx context.Context) (polling context.Context, stop context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	polling, stop = context.WithCancel(ctx)
	if s.rewinding {
		stop()
	}
	s.stopPoll = stop
	return polling, stop
}

// rewind begins every partition once more in the incarnation that the database is in now. It runs on the goroutine that polls, so that no
// records from before it are entered after it.
func (c *Consumer) rewind(ctx context.Context) {
	s := c.sched
	s.mu.Lock()
	s.rewinds++
	rewinds := s.rewinds
	s.mu.Unlock()
	// Where a name stands for two servers that both take writes, one incarnation follows the other.
	if rewinds > 1 && sleep(ctx, c.backoff(rewinds)) != nil {
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
	// A poll with a context that has ended returns at once, and blocks rebalances until AllowRebalance.
	ended, end := context.WithCancel(ctx)
	end()
	c.client.PollRecords(ended, 1)
	defer c.client.AllowRebalance()
	c.committing.Lock()
	defer c.committing.Unlock()
	begun, from := c.beginAgain(now)
	c.client.SetOffsets(from)
	c.resume(begun)
	for _, p := range begun {
		go c.takeIn(p)
	}
}

// beginAgain puts a new partition in the place of each one, and returns where the client is to go back to.
func (c *Consumer) beginAgain(now inboxloop.Incarnation) (begun []*partition, from offsets) {
	s := c.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	s.rewinding = false
	if now == s.incarnation || s.draining {
		return nil, nil // who found it had begun before the last rewind
	}
	s.incarnation = now
	from = offsets{}
	for at, old := range s.partitions {
		if old.closed {
			continue
		}
		p := c.newPartition(at)
		p.start = old.start
		p.from, p.entered, p.committed, p.stable, p.crashed = old.from, old.entered, old.committed, old.stable, old.crashed
		if p.crashed {
			p.careful = c.cfg.MaxRecords
		}
		s.close(old, true)
		old.stop()
		delete(s.paused, old)
		s.partitions[at] = p
		begun = append(begun, p)
		if p.entered {
			s.next[at] = p.from.offset
			if from[at.topic] == nil {
				from[at.topic] = map[int32]kgo.EpochOffset{}
			}
			from[at.topic][at.number] = kgo.EpochOffset{Epoch: p.from.epoch, Offset: p.from.offset}
		}
		c.log.Warn("Postgres crashed or failed over; what was handled since the last flush is looked up, and handled again where it was "+
			"forgotten", "topic", at.topic, "partition", at.number, "from", p.from.offset)
	}
	return begun, from
}

// resume has the client fetch partitions that the old ones had paused.
func (c *Consumer) resume(begun []*partition) {
	numbers := map[string][]int32{}
	for _, p := range begun {
		numbers[p.topic] = append(numbers[p.topic], p.number)
	}
	c.balancing.Lock()
	defer c.balancing.Unlock()
	c.client.ResumeFetchPartitions(numbers)
}
