package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

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

// commit commits the watermarks that have moved: of all partitions that stay, or of those that go.
// It reports what it could not commit only in the log: those records come again, and are
// duplicates.
func (c *Consumer) commit(client *kgo.Client, gone []*schedule.Partition) {
	c.committing.Lock()
	defer c.committing.Unlock()
	marks, member, since := c.sched.Watermarks(gone)
	if len(marks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	// An offset says that all before it is decided. With synchronous_commit = off a crash of Postgres
	// would make that untrue, and a flush after the crash says nothing about what was committed
	// before it.
	if err := c.store.Flush(ctx, since); err != nil {
		if errors.Is(err, inboxloop.ErrForgotten) {
			c.sched.Forgotten()
		}
		c.committed(marks, nil, err)
		return
	}
	c.sched.Flushed(marks)
	asked := offsets{}
	for p, mark := range marks {
		asked.add(p.TopicPartition, mark)
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		if req.MemberID != member {
			return errMember
		}
		return nil
	})
	client.CommitOffsetsSync(ctx, asked, func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		c.committed(marks, answers(req, resp), err)
	})
}

type offsets map[string]map[int32]kgo.EpochOffset

func (o offsets) add(at schedule.TopicPartition, p schedule.Position) {
	if o[at.Topic] == nil {
		o[at.Topic] = map[int32]kgo.EpochOffset{}
	}
	o[at.Topic][at.Number] = kgo.EpochOffset{Epoch: p.Epoch, Offset: p.Offset}
}

// answers are what the broker says of each partition. Newer brokers name a topic by its id alone.
func answers(req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse) map[schedule.TopicPartition]error {
	results := map[schedule.TopicPartition]error{}
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
			results[schedule.TopicPartition{Topic: name, Number: p.Partition}] = kerr.ErrorForCode(p.ErrorCode)
		}
	}
	return results
}

// committed takes the answer to a commit.
func (c *Consumer) committed(marks map[*schedule.Partition]schedule.Position, results map[schedule.TopicPartition]error, err error) {
	for p, mark := range marks {
		failed, answered := results[p.TopicPartition]
		switch {
		case err != nil:
			failed = err
		case !answered:
			failed = fmt.Errorf("the broker did not say")
		}
		c.hooks.committed(p.TopicPartition, mark.Offset, failed)
		if failed != nil {
			c.log.Warn("offset not committed; it is tried again", "topic", p.Topic, "partition", p.Number,
				"offset", mark.Offset, "error", failed)
			continue
		}
		c.sched.Committed(p, mark)
	}
}
