package topics

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/partitioning"
)

// Partitioner chooses partitions by key as the client of that name does, but for the topic pinned,
// whose records name their partition themselves. The number of partitions is the session's, not the
// single producer's.
func (t *Registry) Partitioner(name, pinned string) (kgo.Partitioner, error) {
	p, err := partitioning.New(name)
	if err != nil {
		return nil, err
	}
	return kgo.BasicConsistentPartitioner(func(topic string) func(*kgo.Record, int) int {
		if topic == pinned {
			return func(r *kgo.Record, _ int) int { return int(r.Partition) }
		}
		var partitions int // of the topic, looked up once a producer
		return func(r *kgo.Record, n int) int {
			if partitions == 0 {
				partitions = t.KeysSpreadOver(topic, n)
			}
			return p.Partition(r.Key, partitions)
		}
	}), nil
}
