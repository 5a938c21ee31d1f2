package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// topicRegistry knows the topics that rows go to. A topic is looked up before anything is produced to it: a missing topic
// is waited for outside any transaction.
type topicRegistry struct {
	admin *kadm.Client
	cfg   *Config

	mu    sync.Mutex
	known map[string]int32 // topic to its max.message.bytes
}

// defaultBatchMaxBytes is Kafka's default of max.message.bytes, for a topic whose setting may not be read.
const defaultBatchMaxBytes = 1048588

func newTopicRegistry(cfg *Config, admin *kadm.Client) *topicRegistry {
	return &topicRegistry{admin: admin, cfg: cfg, known: make(map[string]int32)}
}

// batchMaxBytes is the largest batch that the topic takes. The client asks once for each partition it meets.
func (t *topicRegistry) batchMaxBytes(topic string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.known[topic]; ok {
		return min(max(n, 512), 1<<28)
	}
	return defaultBatchMaxBytes
}

// unknown returns which of the page's topics have not been looked up.
func (t *topicRegistry) unknown(p *page) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var unknown []string
	last := ""
	for i := range p.records {
		topic := p.records[i].Topic
		if topic == last {
			continue
		}
		last = topic
		if _, ok := t.known[topic]; !ok && !slices.Contains(unknown, topic) {
			unknown = append(unknown, topic)
		}
	}
	return unknown
}

// lookUp learns about topics, and makes those that are missing where the configuration says so. The error says what is
// missing; it can be mended from outside, so the caller waits and asks again.
func (t *topicRegistry) lookUp(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	details, err := t.admin.ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("look up topics %s: %w", strings.Join(topics, ", "), err)
	}
	var missing, present []string
	for _, topic := range topics {
		detail := details[topic]
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			missing = append(missing, topic)
		case detail.Err != nil:
			return fmt.Errorf("look up topic %s: %w", topic, detail.Err)
		default:
			present = append(present, topic)
		}
	}
	if len(present) > 0 {
		t.learn(ctx, present)
	}
	if len(missing) == 0 {
		return nil
	}
	if !t.cfg.Topics.Create {
		return fmt.Errorf("topic %s does not exist; create it, or set topics.create to true", strings.Join(missing, ", "))
	}
	return t.create(ctx, missing)
}

// learn reads max.message.bytes of the topics, where the relay may.
func (t *topicRegistry) learn(ctx context.Context, topics []string) {
	limits := make(map[string]int32, len(topics))
	for _, topic := range topics {
		limits[topic] = defaultBatchMaxBytes
	}
	configs, err := t.admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		// Without the permission to describe, Kafka's default is assumed; a topic with a smaller limit says so when produced to.
		t.cfg.Logger.Debug("topic settings cannot be read", "topics", topics, "error", err)
	}
	for _, config := range configs {
		for _, c := range config.Configs {
			if c.Key != "max.message.bytes" || c.Value == nil {
				continue
			}
			if n, err := strconv.ParseInt(*c.Value, 10, 32); err == nil && n > 0 {
				limits[config.Name] = int32(n)
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for topic, limit := range limits {
		t.known[topic] = limit
	}
}

// create makes the topics. They are looked up again before they are used: a new topic takes a moment to have leaders.
func (t *topicRegistry) create(ctx context.Context, topics []string) error {
	partitions, replication := t.cfg.Topics.Partitions, t.cfg.Topics.ReplicationFactor
	if partitions == 0 {
		partitions = -1
	}
	if replication == 0 {
		replication = -1
	}
	responses, err := t.admin.CreateTopics(ctx, partitions, replication, nil, topics...)
	if err != nil {
		return fmt.Errorf("create topic %s: %w", strings.Join(topics, ", "), err)
	}
	for _, r := range responses.Sorted() {
		if errors.Is(r.Err, kerr.TopicAlreadyExists) {
			continue
		}
		if r.Err != nil {
			return fmt.Errorf("create topic %s: %w%s", r.Topic, r.Err, detail(r.ErrMessage))
		}
		t.cfg.Logger.Info("topic created", "topic", r.Topic, "partitions", partitions, "replication_factor", replication)
	}
	return errJustCreated
}

// errJustCreated asks for one more look before the topic is used.
var errJustCreated = errors.New("the topic has just been created")

func detail(message string) string {
	if message == "" {
		return ""
	}
	return " (" + message + ")"
}

// checkpointSettings: small segments, so that compaction keeps the topic small; a takeover reads only its end.
var checkpointSettings = map[string]string{
	"cleanup.policy":            "compact",
	"segment.bytes":             "67108864",
	"min.cleanable.dirty.ratio": "0.1",
}

// ensureCheckpointTopic makes the relay's own topic, one partition a lane.
func ensureCheckpointTopic(ctx context.Context, cfg *Config, admin *kadm.Client) error {
	topic := CheckpointTopic(cfg.Name)
	details, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return fmt.Errorf("look up the checkpoint topic %s: %w", topic, err)
	}
	lanes := len(cfg.Lanes)
	switch detail := details[topic]; {
	case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
		return createCheckpointTopic(ctx, cfg, admin, topic)
	case detail.Err != nil:
		return fmt.Errorf("look up the checkpoint topic %s: %w", topic, detail.Err)
	case len(detail.Partitions) < lanes:
		return fmt.Errorf("checkpoint topic %s has %d partitions and %d lanes need one each; "+
			"run kafka-topics.sh --bootstrap-server %s --alter --topic %s --partitions %d",
			topic, len(detail.Partitions), lanes, cfg.Brokers[0], topic, lanes)
	}
	return nil
}

func createCheckpointTopic(ctx context.Context, cfg *Config, admin *kadm.Client, topic string) error {
	settings := make(map[string]*string, len(checkpointSettings))
	var flags strings.Builder
	for _, name := range []string{"cleanup.policy", "segment.bytes", "min.cleanable.dirty.ratio"} {
		value := checkpointSettings[name]
		settings[name] = &value
		fmt.Fprintf(&flags, " --config %s=%s", name, value)
	}
	response, err := admin.CreateTopic(ctx, int32(len(cfg.Lanes)), -1, settings, topic)
	if err == nil {
		err = response.Err
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create the checkpoint topic: %w%s; make it with: "+
			"kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d%s",
			err, detail(response.ErrMessage), cfg.Brokers[0], topic, len(cfg.Lanes), flags.String())
	}
	cfg.Logger.Info("checkpoint topic created", "topic", topic, "partitions", len(cfg.Lanes))
	return nil
}
