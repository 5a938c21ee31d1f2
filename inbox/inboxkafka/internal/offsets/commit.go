package offsets

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// Timeout bounds one commit: a rebalance waits for it.
const Timeout = 5 * time.Second

// Committer commits the watermarks of a schedule. Its lock is held while it does.
type Committer struct {
	Sched    *schedule.Scheduler
	Interval time.Duration
	Log      *slog.Logger

	// Flush is that of inboxloop.Loop.
	Flush func(context.Context, inboxloop.Incarnation) error

	// Told is told of each offset that was committed, or was not, with the error.
	Told func(at schedule.TopicPartition, offset int64, err error)

	sync.Mutex
}

// Run commits on the interval until ctx ends.
func (c *Committer) Run(ctx context.Context, client *kgo.Client) {
	ticker := time.NewTicker(c.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			c.Commit(client, nil)
		case <-ctx.Done():
			return
		}
	}
}

// errMember is the reason why a commit was given up.
var errMember = errors.New("the group has made this process a new member meanwhile")

// Commit commits the watermarks that have moved: of all partitions that stay, or of those that go.
// It reports what it could not commit only in the log: those records come again, and are
// duplicates.
func (c *Committer) Commit(client *kgo.Client, gone []*schedule.Partition) {
	c.Lock()
	defer c.Unlock()
	marks, member, since := c.Sched.Watermarks(gone)
	if len(marks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), Timeout)
	defer cancel()
	// An offset says that all before it is decided. With synchronous_commit = off a crash of Postgres
	// would make that untrue, and a flush after the crash says nothing about what was committed
	// before it.
	if err := c.Flush(ctx, since); err != nil {
		if errors.Is(err, inboxloop.ErrForgotten) {
			c.Sched.Forgotten()
		}
		c.committed(marks, nil, err)
		return
	}
	c.Sched.Flushed(marks)
	asked := Map{}
	for p, mark := range marks {
		asked.Add(p.TopicPartition, mark)
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		if req.MemberID != member {
			return errMember
		}
		return nil
	})
	answered := func(_ *kgo.Client, req *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
		c.committed(marks, answers(req, resp), err)
	}
	client.CommitOffsetsSync(ctx, asked, answered)
}

// Map is what the client takes as offsets.
type Map map[string]map[int32]kgo.EpochOffset

// Add puts one in.
func (o Map) Add(at schedule.TopicPartition, p schedule.Position) {
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
func (c *Committer) committed(
	marks map[*schedule.Partition]schedule.Position, results map[schedule.TopicPartition]error, err error,
) {
	for p, mark := range marks {
		failed, answered := results[p.TopicPartition]
		switch {
		case err != nil:
			failed = err
		case !answered:
			failed = errors.New("the broker did not say")
		}
		c.Told(p.TopicPartition, mark.Offset, failed)
		if failed != nil {
			c.Log.Warn("offset not committed; it is tried again", "topic", p.Topic, "partition", p.Number,
				"offset", mark.Offset, "error", failed)
			continue
		}
		c.Sched.Committed(p, mark)
	}
}
