package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// checkCheckpointPolicy halts where brokers would delete old checkpoints: the last one of an idle lane is old.
func checkCheckpointPolicy(ctx context.Context, cfg *Config, admin *kadm.Client) error {
	topic := CheckpointTopic(cfg.Name)
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	if denied := (*kadm.AuthError)(nil); errors.As(err, &denied) {
		cfg.Logger.Warn("the settings of the checkpoint topic may not be read (DescribeConfigs), so its cleanup.policy is not checked",
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
			return contradiction(CheckpointPolicy,
				fmt.Sprintf("run kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s "+
					"--add-config cleanup.policy=compact; the lane looks again every %v", cfg.Brokers[0], topic, haltedRetry),
				"the checkpoint topic %s has cleanup.policy=%s: brokers would delete the checkpoint of a lane that is idle for "+
					"as long as the topic's retention, and the relay would not know what it has published", topic, *c.Value)
		}
	}
	return nil
}
