package relay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// membership is this process's place in the consumer group that shares the lanes: partition n of the checkpoint topic
// stands for lane n. Nothing is consumed through it.
type membership struct {
	client *kgo.Client

	mu         sync.Mutex
	partitions map[int32]bool
	settled    bool          // the group has told this member its share, be it nothing
	notify     chan struct{} // closed and replaced at each change
}

func join(cfg *Config) (*membership, error) {
	m := &membership{partitions: make(map[int32]bool), notify: make(chan struct{})}
	topic := CheckpointTopic(cfg.Name)
	client, err := kgo.NewClient(append(clientOptions(cfg),
		kgo.ConsumerGroup(Group(cfg.Name)),
		kgo.ConsumeTopics(topic),
		kgo.DisableAutoCommit(),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(cfg.SessionTimeout/6, time.Second)),
		kgo.RebalanceTimeout(cfg.SessionTimeout+cfg.DrainTimeout),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.set(p[topic], true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.set(p[topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.set(p[topic], false) }),
	)...)
	if err != nil {
		return nil, fmt.Errorf("join group %s: %w", Group(cfg.Name), err)
	}
	client.PauseFetchTopics(topic)
	m.client = client
	return m, nil
}

func (m *membership) set(partitions []int32, has bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range partitions {
		if has {
			m.partitions[p] = true
		} else {
			delete(m.partitions, p)
		}
	}
	m.settled = true
	close(m.notify)
	m.notify = make(chan struct{})
}

// has reports whether the partition is assigned to this process.
func (m *membership) has(partition int32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.partitions[partition]
}

// joined reports whether the group has settled with this process in it.
func (m *membership) joined() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settled
}

// changed returns a channel that is closed at the next change of the assignment.
func (m *membership) changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notify
}

// leave tells the group at once that this process is going. It must not be called before the lanes have been drained.
func (m *membership) leave() { m.client.Close() }
