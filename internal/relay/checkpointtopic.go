package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// checkpointSettings: small segments, so that compaction keeps the topic small; a takeover reads only its end.
var checkpointSettings = map[string]string{
	"cleanup.policy":            "compact",
	"segment.bytes":             "67108864",
	"min.cleanable.dirty.ratio": "0.1",
}

// ensureCheckpointTopic makes the relay's own topic, one partition a lane, and adds partitions for new lanes. It is no error
// if it may not, where there are at least need partitions.
func ensureCheckpointTopic(ctx context.Context, cfg *Config, admin *kadm.Client, need int) error {
	topic := CheckpointTopic(cfg.Name)
	details, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("look up the checkpoint topic %s: %w", topic, err)
	}
	lanes := max(len(cfg.Lanes), need)
	switch detail := details[topic]; {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return createCheckpointTopic(ctx, cfg, admin, topic, lanes)
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
			topic, len(detail.Partitions), lanes, err, cfg.Brokers[0], topic, lanes)
	}
	return nil
}

func createCheckpointTopic(ctx context.Context, cfg *Config, admin *kadm.Client, topic string, lanes int) error {
	settings := make(map[string]*string, len(checkpointSettings))
	var flags strings.Builder
	for _, name := range []string{"cleanup.policy", "segment.bytes", "min.cleanable.dirty.ratio"} {
		value := checkpointSettings[name]
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
			err, detail(response.ErrMessage), cfg.Brokers[0], topic, lanes, flags.String())
	}
	cfg.Logger.Info("checkpoint topic created", "topic", topic, "partitions", lanes)
	return nil
}
