package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// commitTimeout bounds one commit: a rebalance waits for it.
const commitTimeout = 5 * time.Second

// commitLoop commits on the interval until ctx ends.
func (c *Consumer) commitLoop(ctx context.Context) {
	ticker := time.NewTicker(c.cfg.CommitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.commit(c.client, nil)
		case <-ctx.Done():
			return
		}
	}
}

// errMember is the reason why a commit was given up.
var errMember = errors.New("the group has made this process a new member meanwhile")

// commit commits the watermarks that have moved: of all partitions that stay, or of those that go. It reports what it could not
// commit only in the log: those records come again, and are duplicates.
func (c *Consumer) commit(client *kgo.Client, gone []closing) {
	c.committing.Lock()
	defer c.committing.Unlock()
	offsets, partitions, member, since := c.watermarks(gone)
	if len(offsets) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	// An offset says that all before it is decided. With synchronous_commit = off a crash of Postgres would make that untrue, and a flush
	// after the crash says nothing about what was committed before it.
	if err := c.store.Flush(ctx, since); err != nil {
		if errors.Is(err, inboxloop.ErrForgotten) {
			c.forgotten()
		}
		c.committed(offsets, partitions, nil, err)
		return
	}
	c.flushed(offsets, partitions)
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		if req.MemberID != member {
			return errMember
		}
		return nil
	})
	client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		c.committed(offsets, partitions, answers(req, resp), err)
	})
}

type offsets map[string]map[int32]kgo.EpochOffset

// watermarks are the positions to commit, their partitions, the member that has them, and the incarnation in which all before them was
// decided.
func (c *Consumer) watermarks(gone []closing) (offsets, map[place]*partition, string, inboxloop.Incarnation) {
	s := c.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	marks, partitions := offsets{}, map[place]*partition{}
	add := func(p *partition) {
		mark, known := p.tracker.watermark()
		if !known || mark == p.committed || p.lost || p.incarnation != s.incarnation {
			return
		}
		if marks[p.topic] == nil {
			marks[p.topic] = map[int32]kgo.EpochOffset{}
		}
		marks[p.topic][p.number] = kgo.EpochOffset{Epoch: mark.epoch, Offset: mark.offset}
		partitions[p.place] = p
	}
	if gone == nil {
		for _, p := range s.partitions {
			if !p.closed {
				add(p)
			}
		}
	}
	for _, p := range gone {
		add(p.partition)
	}
	return marks, partitions, c.member, s.incarnation
}

// answers are what the broker says of each partition. Newer brokers name a topic by its id alone.
func answers(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) map[place]error {
	results := map[place]error{}
	if resp == nil {
		return results
	}
	names := map[[16]byte]string{}
	for _, t := range req.Topics {
		names[t.TopicID] = t.Topic
	}
	for _, t := range resp.Topics {
		name := t.Topic
		if name == "" {
			name = names[t.TopicID]
		}
		for _, p := range t.Partitions {
			results[place{name, p.Partition}] = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return results
}

// committed takes the answer to a commit.
func (c *Consumer) committed(asked offsets, partitions map[place]*partition, results map[place]error, err error) {
	for at, p := range partitions {
		mark := asked[at.topic][at.number]
		failed, answered := results[at]
		switch {
		case err != nil:
			failed = err
		case !answered:
			failed = fmt.Errorf("the broker did not say")
		}
		c.hooks.committed(at, mark.Offset, failed)
		if failed != nil {
			c.log.Warn("offset not committed; it is tried again", "topic", at.topic, "partition", at.number,
				"offset", mark.Offset, "error", failed)
			continue
		}
		c.sched.mu.Lock()
		p.committed = position{mark.Offset, mark.Epoch}
		c.sched.mu.Unlock()
	}
}
