package relay

import (
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/kafkaclient"
	"github.com/outbox-relay/relay/internal/topics"
)

// checkpointTopic is the topic that holds the checkpoints.
func (c *Config) checkpointTopic() checkpoint.TopicOptions {
	return checkpoint.TopicOptions{
		Topic: checkpoint.TopicName(c.Name), Broker: c.Brokers[0], Lanes: len(c.Lanes), Logger: c.Logger,
	}
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

// electionOptions are those of the group that shares the lanes.
func (c *Config) electionOptions() election.Options {
	return election.Options{
		Group: election.Group(c.Name), Topic: c.checkpointTopic(), ClientOptions: clientOptions(c),
		SessionTimeout: c.SessionTimeout, DrainTimeout: c.DrainTimeout, RetryMin: c.RetryMin, RetryMax: c.RetryMax, Logger: c.Logger,
	}
}
