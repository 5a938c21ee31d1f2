package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/brief"
)

// topicSettings: small segments, so that compaction keeps the topic small; a takeover reads only
// its end.
var topicSettings = map[string]string{
	"cleanup.policy":            "compact",
	"segment.bytes":             "67108864",
	"min.cleanable.dirty.ratio": "0.1",
}

// TopicOptions say which topic holds the checkpoints of a deployment.
type TopicOptions struct {
	Topic string
	// Broker is named in the commands that a person should run.
	Broker string
	// Lanes of the deployment; each has a partition.
	Lanes  int
	Logger *slog.Logger
}

// TopicName is the compacted topic that holds the checkpoints of the deployment name, one partition
// a lane.
func TopicName(name string) string { return "relay." + name + ".checkpoints" }

// EnsureTopic makes the relay's own topic, one partition a lane, and adds partitions for new lanes.
// It is no error if it may not, and there are at least need partitions.
func EnsureTopic(ctx context.Context, admin *kadm.Client, o TopicOptions, need int) error {
	topic := o.Topic
	details, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("look up the checkpoint topic %s: %w", topic, err)
	}
	lanes := max(o.Lanes, need)
	switch detail := details[topic]; {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return createTopic(ctx, admin, o, lanes)
	case detail.Err != nil:
		return fmt.Errorf("look up the checkpoint topic %s: %w", topic, detail.Err)
	case len(detail.Partitions) < lanes:
		responses, err := admin.UpdatePartitions(ctx, lanes, topic)
		if err == nil {
			err = responses.Error()
		}
		if err == nil || len(detail.Partitions) >= need {
			return nil
		}
		return fmt.Errorf("checkpoint topic %s has %d partitions and %d lanes need one each: %w; "+
			"run kafka-topics.sh --bootstrap-server %s --alter --topic %s --partitions %d",
			topic, len(detail.Partitions), lanes, err, o.Broker, topic, lanes)
	}
	return nil
}

func createTopic(ctx context.Context, admin *kadm.Client, o TopicOptions, lanes int) error {
	topic := o.Topic
	settings := make(map[string]*string, len(topicSettings))
	var flags strings.Builder
	for _, name := range []string{"cleanup.policy", "segment.bytes", "min.cleanable.dirty.ratio"} {
		value := topicSettings[name]
		settings[name] = &value
		fmt.Fprintf(&flags, " --config %s=%s", name, value)
	}
	response, err := admin.CreateTopic(ctx, int32(lanes), -1, settings, topic)
	if err == nil {
		err = response.Err
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the checkpoint topic: %w%s; make it with: "+
			"kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d%s",
			err, brief.Detail(response.ErrMessage), o.Broker, topic, lanes, flags.String())
	}
	o.Logger.Info("checkpoint topic created", "topic", topic, "partitions", lanes)
	return nil
}

// CheckPolicy halts where brokers would delete old checkpoints: the last one of an idle lane is
// old.
func CheckPolicy(ctx context.Context, admin *kadm.Client, o TopicOptions) error {
	topic := o.Topic
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if denied := (*kadm.AuthError)(nil); errors.As(err, &denied) {
		o.Logger.Warn("the settings of the checkpoint topic may not be read (DescribeConfigs), so its cleanup.policy is not checked",
			"topic", topic)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the settings of the checkpoint topic: %w", err)
	}
	config, err := configs.On(topic, nil)
	if err == nil {
		err = config.Err
	}
	if err != nil {
		return fmt.Errorf("read the settings of the checkpoint topic %s: %w", topic, err)
	}
	for _, c := range config.Configs {
		if c.Key == "cleanup.policy" && c.Value != nil && strings.Contains(*c.Value, "delete") {
			return Contradiction(CheckpointPolicy,
				fmt.Sprintf("run kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s "+
					"--add-config cleanup.policy=compact; the lane looks again every %v", o.Broker, topic, HaltedRetry),
				"the checkpoint topic %s has cleanup.policy=%s: brokers would delete the checkpoint of a lane that is idle for "+
					"as long as the topic's retention, and the relay would not know what it has published", topic, *c.Value)
		}
	}
	return nil
}
