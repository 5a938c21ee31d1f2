package relay

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/kafkaclient"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topicname"
	"github.com/outbox-relay/relay/internal/topics"
	"github.com/outbox-relay/relay/partitioning"
)

// newPartitioner chooses partitions by key, but for the topic pinned, whose records name their
// partition themselves. The number of partitions is the session's, not the single producer's.
func newPartitioner(name, pinned string, topics *topics.Registry) (kgo.Partitioner, error) {
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
				partitions = topics.KeysSpreadOver(topic, n)
			}
			return p.Partition(r.Key, partitions)
		}
	}), nil
}

// checkpointTopic is the topic that holds the checkpoints.
func (c *Config) checkpointTopic() checkpoint.TopicOptions {
	return checkpoint.TopicOptions{
		Topic: checkpoint.TopicName(c.Name), Broker: c.Brokers[0], Lanes: len(c.Lanes), HaltedRetry: haltedRetry, Logger: c.Logger,
	}
}

// checkpointLog is the partition of that topic which belongs to a lane.
func (c *Config) checkpointLog(client *kgo.Client, lane string, partition int32) *checkpoint.Log {
	return checkpoint.NewLog(client, checkpoint.LogOptions{
		Lane: lane, Topic: checkpoint.TopicName(c.Name), Partition: partition, ClientOptions: clientOptions(c),
	})
}

// topicOptions say what becomes of topics that do not exist.
func (c *Config) topicOptions() topics.Options {
	return topics.Options{
		Create: c.Topics.Create, Partitions: c.Topics.Partitions, ReplicationFactor: c.Topics.ReplicationFactor, Logger: c.Logger,
	}
}

// clientOptions are common to every Kafka client of the relay.
func clientOptions(c *Config) []kgo.Opt {
	return kafkaclient.Options(c.Brokers, "relay."+c.Name, kafkaclient.NewLogger(c.Logger, c.repeats), c.KafkaOptions)
}

// mayWriteTo reports whether rows of the lane may go to the topic.
func (c *Config) mayWriteTo(topic string) bool {
	mayName := append([]string{topicname.PatternOf(c.Route)}, topicname.Allowed(c.Topics.Allow, c.Route)...)
	return topicname.CheckNamed(topic, mayName) == nil
}

// poolOptions are those of the lane's producers.
func (s *session) poolOptions(clock *outboxread.Clock) (kafkatx.PoolOptions, error) {
	partitioner, err := newPartitioner(s.cfg.Partitioner, s.log.Topic, s.topics)
	return kafkatx.PoolOptions{
		IDs:                kafkatx.TransactionalIDs(s.cfg.Name, s.lane.Name),
		Checkpoints:        kafkatx.Place{Topic: s.log.Topic, Partition: s.log.Partition},
		ClientOptions:      clientOptions(s.cfg),
		TransactionTimeout: s.cfg.TransactionTimeout,
		Partitioner:        partitioner,
		Compression:        compressions[s.cfg.Compression],
		BatchMaxBytes:      s.topics.BatchMaxBytes,
		MaxBufferedRecords: s.cfg.BatchRows + checkpoint.PoolSize,
		Now:                clock.Now,
		Broker:             s.cfg.Brokers[0],
		Logger:             s.lane.log,
		Reports: kafkatx.Reports{
			Waiting:  func(reason string) { s.lane.change(Waiting, reason) },
			Working:  s.lane.running,
			Unclosed: s.lane.unclosed,
			LeftOpen: s.lane.foundOpen,
		},
	}, err
}

// electionOptions are those of the group that shares the lanes.
func (c *Config) electionOptions() election.Options {
	return election.Options{
		Group: election.Group(c.Name), Topic: c.checkpointTopic(), ClientOptions: clientOptions(c),
		SessionTimeout: c.SessionTimeout, DrainTimeout: c.DrainTimeout, RetryMin: c.RetryMin, RetryMax: c.RetryMax, Logger: c.Logger,
	}
}
