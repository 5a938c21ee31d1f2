package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Options say which group shares which lanes.
type Options struct {
	// Group is the consumer group.
	Group string
	// Topic is that of the checkpoints, whose partitions the group shares out.
	Topic checkpoint.TopicOptions
	// ClientOptions are common to all clients.
	ClientOptions []kgo.Opt
	// SessionTimeout is how long a member may be silent.
	SessionTimeout time.Duration
	// DrainTimeout is how long a member may take to hand a lane on.
	DrainTimeout time.Duration
	// RetryMin and RetryMax bound the pause between two looks for the topic.
	RetryMin, RetryMax time.Duration
	Logger             *slog.Logger
}

// Group is the consumer group that relays of the deployment name join to share its lanes.
func Group(name string) string { return "relay." + name }

// Member is this process's place in the consumer group that shares the lanes: partition n of the
// checkpoint topic stands for lane n. Nothing is consumed through it.
type Member struct {
	mu         sync.Mutex
	partitions map[int32]bool
	settled    bool          // the group has told this member its share, be it nothing
	notify     chan struct{} // closed and replaced at each change
}

// NewMember has joined no group yet.
func NewMember() *Member {
	return &Member{partitions: make(map[int32]bool), notify: make(chan struct{})}
}

// Run is a member of the group until ctx ends. It first sees to the topic that the group shares
// out, for as long as that takes.
func (m *Member) Run(ctx context.Context, o Options) error {
	if err := awaitTopic(ctx, o); err != nil {
		return err
	}
	topic := o.Topic.Topic
	clientCtx, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	client, err := kgo.NewClient(append(slices.Clone(o.ClientOptions),
		kgo.WithContext(clientCtx),
		kgo.WithHooks(&groupErrors{log: o.Logger, group: o.Group}),
		kgo.ConsumerGroup(o.Group),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(o.SessionTimeout),
		kgo.HeartbeatInterval(min(o.SessionTimeout/6, time.Second)),
		kgo.RebalanceTimeout(o.SessionTimeout+o.DrainTimeout),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.set(p[topic], true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.set(p[topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.lose(p[topic]) }),
	)...)
	if err != nil {
		return fmt.Errorf("join group %s: %w", o.Group, err)
	}
	client.PauseFetchTopics(topic)
	<-ctx.Done()
	leaveGroup(client, abandon)
	return nil
}

// lose is told that the group cannot be reached or has dropped this member. Whether a lane has
// another assignee is not known then: it goes on, unless it is fenced.
func (m *Member) lose(partitions []int32) {
	m.change(partitions, false, false)
}

func (m *Member) set(partitions []int32, has bool) { m.change(partitions, has, true) }

func (m *Member) change(partitions []int32, has, settled bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range partitions {
		if has {
			m.partitions[p] = true
		} else {
			delete(m.partitions, p)
		}
	}
	m.settled = settled
	close(m.notify)
	m.notify = make(chan struct{})
}

// Has reports whether the partition is assigned to this process.
func (m *Member) Has(partition int32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.partitions[partition]
}

// Joined reports whether the group has settled with this process in it.
func (m *Member) Joined() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

// Changed returns a channel that is closed at the next change of the assignment.
func (m *Member) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notify
}

// groupErrors logs why this process is not in the group, each reason once in a row. The lanes go on
// without it.
type groupErrors struct {
	log   *slog.Logger
	group string
	last  string // used by the client's group goroutine only
}

// OnGroupManageError is called by the client when it drops out of the group.
func (h *groupErrors) OnGroupManageError(err error) {
	if err == nil || errors.Is(err, context.Canceled) || err.Error() == h.last {
		return
	}
	h.last = err.Error()
	h.log.Warn("not in the group that shares the lanes; a free lane is still taken", "group", h.group, "error", err)
}

// leaveTimeout bounds the goodbye to a group that may be out of reach.
const leaveTimeout = 3 * time.Second

// leaveGroup tells the group that this process is going, so that its lanes are assigned to others
// at once. A join that is under way is waited for by the client, for as long as the group takes:
// abandon, which ends the client's context, bounds it.
func leaveGroup(client *kgo.Client, abandon func()) {
	limit := time.AfterFunc(leaveTimeout, abandon)
	defer limit.Stop()
	// Where the group cannot be told, its session timeout tells it.
	client.Close()
}

// attemptTimeout bounds one look for the topic.
const attemptTimeout = time.Minute

// awaitTopic makes the checkpoint topic, or waits until somebody has.
func awaitTopic(ctx context.Context, o Options) error {
	client, err := kgo.NewClient(o.ClientOptions...)
	if err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	admin := kadm.NewClient(client)
	defer admin.Close()
	for pause := o.RetryMin; ; pause = min(2*pause, o.RetryMax) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		err := checkpoint.EnsureTopic(attempt, admin, o.Topic, 1)
		cancel()
		if err == nil {
			return nil
		}
		o.Logger.Debug("group not joined yet", "error", err)
		if err := backoff.Sleep(ctx, backoff.Jitter(pause)); err != nil {
			return nil
		}
	}
}
