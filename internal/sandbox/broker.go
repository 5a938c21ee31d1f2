package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// BrokerOptions says what cluster StartBroker starts. The zero value works.
type BrokerOptions struct {
	// Partitions of a topic that does not say how many it wants. Defaults to 6.
	Partitions int

	// Topics exist from the start, with that many partitions. Defaults to none.
	Topics []string

	// MinSessionTimeout is the shortest session timeout that a member of a consumer group may ask
	// for. Defaults to 100 ms, where a real cluster defaults to 6 s, so that a takeover is seen at
	// once.
	MinSessionTimeout time.Duration
}

// Broker is a simulated Kafka cluster of one broker in this process, on TCP. Its data is in memory.
type Broker struct {
	// Addresses are the bootstrap servers, HOST:PORT each.
	Addresses []string

	cluster *kfake.Cluster
}

// StartBroker starts a cluster on a free port of the loopback address. The caller ends it with
// Stop.
func StartBroker(ctx context.Context, options BrokerOptions) (*Broker, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	if options.Partitions == 0 {
		options.Partitions = 6
	}
	if options.MinSessionTimeout == 0 {
		options.MinSessionTimeout = 100 * time.Millisecond
	}
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.DefaultNumPartitions(options.Partitions),
		kfake.GroupMinSessionTimeout(options.MinSessionTimeout),
		kfake.SeedTopics(0, options.Topics...),
	)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	return &Broker{Addresses: cluster.ListenAddrs(), cluster: cluster}, nil
}

// Stop ends the cluster and forgets its data. A second call does nothing.
func (b *Broker) Stop() {
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
}
