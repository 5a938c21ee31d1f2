package topics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/brief"
)

// Options of a registry.
type Options struct {
	// Create makes a topic that is missing, with so many Partitions and replicas; 0 is the
	// cluster's default.
	Create            bool
	Partitions        int32
	ReplicationFactor int16
	Logger            *slog.Logger
}

// Registry knows the topics that rows go to. A topic is looked up before anything is produced to
// it: a missing topic is waited for outside any transaction.
type Registry struct {
	admin *kadm.Client
	Options
	Unavailable *Unavailable
	// Clear is asked about topics before they are written to. It returns those that may not be, and
	// why.
	Clear func(context.Context, []string) (map[string]error, error)

	mu             sync.Mutex
	known          map[string]Topic
	newlySuspended []string         // topics that have just been suspended; used by the publisher
	given          map[string]int32 // what the producers were told of a topic's limit, once
	// partitionCounts is how many partitions a topic had at the session's first look. Producers learn
	// of more at different times, and a key could then alternate between two partitions; so the next
	// session uses the new number.
	partitionCounts map[string]int
}

// DefaultBatchBytes is Kafka's default of max.message.bytes, for topics whose setting may not be
// read.
const DefaultBatchBytes = 1048588

// MaxRecordBytes is the largest record that the relay sends: brokers close the connection on a
// request of more than 100 MiB (socket.request.max.bytes), which would look like an outage.
const MaxRecordBytes = 100<<20 - 64<<10

// NewRegistry asks brokers through admin. What is unavailable outlives the registry, in out.
func NewRegistry(admin *kadm.Client, out *Unavailable, o Options) *Registry {
	return &Registry{
		admin: admin, Options: o, Unavailable: out,
		known: make(map[string]Topic), given: make(map[string]int32), partitionCounts: make(map[string]int),
	}
}

// BatchMaxBytes is the largest batch that the producers make for a topic. Each asks once for each
// partition it meets, so the answer stays the same for a session. A limit that is not known is no
// limit: the broker decides.
func (t *Registry) BatchMaxBytes(topic string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if given, ok := t.given[topic]; ok {
		return given
	}
	known, ok := t.known[topic]
	if !ok {
		return MaxRecordBytes // the checkpoint topic, or none at all
	}
	given := int32(MaxRecordBytes)
	if known.MaxBytes > 0 {
		given = min(max(known.MaxBytes, 512), MaxRecordBytes)
	}
	t.given[topic] = given
	return given
}

// Limit is the size above which a record of the topic is not even tried: what was read from the
// brokers, or what the relay can send at all. A guess is none: a record may be refused only by a
// limit that is known, or by the broker.
func (t *Registry) Limit(topic string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := int32(MaxRecordBytes)
	if known, ok := t.known[topic]; ok && known.MaxBytes > 0 {
		limit = min(limit, known.MaxBytes)
	}
	if given, ok := t.given[topic]; ok {
		limit = min(limit, given)
	}
	return int(limit)
}

// KeysSpreadOver is how many partitions keys are spread over, given how many the producer knows.
func (t *Registry) KeysSpreadOver(topic string, producer int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.partitionCounts[topic]; ok {
		return n
	}
	return producer
}

// SmallestLimit is the smallest limit of any topic looked up so far.
func (t *Registry) SmallestLimit() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	least := int32(MaxRecordBytes)
	for _, known := range t.known {
		if known.MaxBytes > 0 {
			least = min(least, known.MaxBytes)
		}
	}
	for _, given := range t.given {
		least = min(least, given)
	}
	return int(least)
}

// SomeUnlimited reports whether the limit of any topic looked up so far is not known.
func (t *Registry) SomeUnlimited() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.known {
		if known.MaxBytes == 0 {
			return true
		}
	}
	return false
}

// Known returns what is known of a topic.
func (t *Registry) Known(topic string) (Topic, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[topic]
	return known, ok
}

// Forget has the topic looked up again before its next use.
func (t *Registry) Forget(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, topic)
}

// Of lists the topics of records.
func Of(records []kgo.Record) []string {
	seen := make(map[string]bool)
	for i := range records {
		seen[records[i].Topic] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// Unknown returns which topics of records have not been looked up, except those that are suspended.
// The records at the places except, in their order, are left out: their topics may be none.
func (t *Registry) Unknown(records []kgo.Record, except []int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var unknown []string
	var seen map[string]bool
	last := ""
	for i := range records {
		topic := records[i].Topic
		if len(except) > 0 && except[0] == i {
			except = except[1:]
			continue
		}
		if topic == last {
			continue
		}
		last = topic
		if _, ok := t.known[topic]; ok || seen[topic] {
			continue
		}
		if seen == nil {
			seen = make(map[string]bool)
		}
		seen[topic] = true
		if t.Unavailable.Suspended(topic) == nil {
			unknown = append(unknown, topic)
		}
	}
	return unknown
}

// LookUp learns about topics, and creates those that are missing if the configuration says so. A
// topic that is unavailable is noted as such. The error is that of the cluster as a whole; the
// caller waits and asks again.
func (t *Registry) LookUp(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	defer t.LogSuspended()
	details, err := t.admin.ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("look up topics %s: %w", brief.Some(topics, ", "), err)
	}
	var missing []string
	present := make(map[string]Topic)
	for _, topic := range topics {
		detail := details[topic]
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition) && t.Create:
			missing = append(missing, topic)
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			t.SetUnavailable(topic, fmt.Errorf("topic %s %w; create it, or set topics.create to true", topic, errMissing))
		case errors.Is(detail.Err, kerr.TopicAuthorizationFailed):
			t.SetUnavailable(topic, fmt.Errorf("topic %s may not be described or written to by this relay: %w; see relay acl", topic, detail.Err))
		case detail.Err != nil:
			return fmt.Errorf("look up topic %s: %w", topic, detail.Err)
		default:
			present[topic] = knownOf(detail)
		}
	}
	if len(present) > 0 {
		if err := t.learn(ctx, present); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return t.create(ctx, missing)
}

// Refresh reads the limits of topics again. Nothing is known of one that cannot be written to now.
func (t *Registry) Refresh(ctx context.Context, topics ...string) error {
	for _, topic := range topics {
		t.Forget(topic)
	}
	return t.LookUp(ctx, topics)
}

// framing is more than what a batch of one record has beside keys, values and headers.
const framing = 1 << 10

// Outgrown reports whether the producers use a limit that a record of that size may exceed, and
// the topic takes it by now, as far as is known.
func (t *Registry) Outgrown(topic string, size int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[topic]
	given, asked := t.given[topic]
	return ok && asked && given < MaxRecordBytes && size+framing > int(given) &&
		(known.MaxBytes == 0 || known.MaxBytes > given && size <= int(known.MaxBytes))
}

// SetUnavailable notes that a topic cannot be written to. The caller says so with sayHeld.
func (t *Registry) SetUnavailable(topic string, cause error) {
	if t.Unavailable.note(topic, cause) {
		t.newlySuspended = append(t.newlySuspended, fmt.Sprintf("%s: %v", topic, cause))
	}
}

// LogSuspended logs which topics are suspended since it was called last.
func (t *Registry) LogSuspended() {
	if len(t.newlySuspended) == 0 {
		return
	}
	t.Logger.Error("topics are unavailable; their aggregates are parked until they are back, all others go on",
		"topics", len(t.newlySuspended), "error", brief.Some(t.newlySuspended, "; "))
	t.newlySuspended = nil
}

// learn reads max.message.bytes of the topics, if the relay may.
func (t *Registry) learn(ctx context.Context, topics map[string]Topic) error {
	configs, err := t.describe(ctx, slices.Sorted(maps.Keys(topics)))
	if err != nil {
		return err
	}
	for _, config := range configs {
		if config.Err != nil {
			if !errors.Is(config.Err, kerr.TopicAuthorizationFailed) {
				return fmt.Errorf("read the settings of topic %s: %w", config.Name, config.Err)
			}
			t.sayUnknown(config.Name)
		}
		topics[config.Name] = topics[config.Name].with(config.Configs)
	}
	for topic, known := range topics {
		if known.inSync < known.minInSync {
			delete(topics, topic)
			t.SetUnavailable(topic, fmt.Errorf("topic %s has a partition with %d replicas in sync, and needs %d (min.insync.replicas)",
				topic, known.inSync, known.minInSync))
		}
	}
	if t.Clear != nil && len(topics) > 0 {
		blocked, err := t.Clear(ctx, slices.Collect(maps.Keys(topics)))
		if err != nil {
			return fmt.Errorf("see that earlier transactions are closed: %w", err)
		}
		for topic, cause := range blocked {
			delete(topics, topic)
			t.SetUnavailable(topic, cause)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) > maxUnavailable {
		clear(t.known) // they are looked up again
	}
	maps.Copy(t.known, topics)
	for topic, known := range topics {
		if _, ok := t.partitionCounts[topic]; !ok {
			t.partitionCounts[topic] = known.partitions
		}
	}
	return nil
}

// describe reads the settings of topics. The library takes a denial for one topic for that of the
// whole question, so if there is one each topic is asked about alone.
func (t *Registry) describe(ctx context.Context, topics []string) (kadm.ResourceConfigs, error) {
	configs, err := t.admin.DescribeTopicConfigs(ctx, topics...)
	denied := (*kadm.AuthError)(nil)
	switch {
	case err == nil:
		return configs, nil
	case !errors.As(err, &denied):
		return nil, fmt.Errorf("read the settings of topics: %w", err)
	case len(topics) == 1:
		t.sayUnknown(topics[0])
		return nil, nil
	}
	var all kadm.ResourceConfigs
	for _, topic := range topics {
		one, err := t.describe(ctx, []string{topic})
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}

// sayUnknown says that the limit of a topic is not known.
func (t *Registry) sayUnknown(topic string) {
	t.Logger.Warn("the settings of a topic may not be read (DescribeConfigs), so its max.message.bytes is not known; "+
		"batches are kept small, and the broker is asked about larger records one by one", "topic", topic, "batch_bytes", DefaultBatchBytes)
}

// create makes the topics. Those that could not be made are noted as unavailable. The error is
// ErrJustCreated if any is there now: it is looked up again before it is used, because a new topic
// takes a moment to have leaders.
func (t *Registry) create(ctx context.Context, topics []string) error {
	partitions, replication := t.Partitions, t.ReplicationFactor
	if partitions == 0 {
		partitions = -1
	}
	if replication == 0 {
		replication = -1
	}
	responses, err := t.admin.CreateTopics(ctx, partitions, replication, nil, topics...)
	if err != nil {
		return fmt.Errorf("create topics %s: %w", brief.Some(topics, ", "), err)
	}
	made := false
	for _, r := range responses.Sorted() {
		if errors.Is(r.Err, kerr.TopicAlreadyExists) {
			made = true
			continue
		}
		if r.Err != nil {
			t.SetUnavailable(r.Topic, notCreated(r))
			continue
		}
		made = true
		t.Logger.Info("topic created", "topic", r.Topic, "partitions", partitions, "replication_factor", replication)
	}
	if !made {
		return nil
	}
	return ErrJustCreated
}

// notCreated says why a topic that does not exist could not be made.
func notCreated(r kadm.CreateTopicResponse) error {
	if errors.Is(r.Err, kerr.TopicAuthorizationFailed) {
		return fmt.Errorf("topic %s %w, and this relay may not make it (Create is denied): %w%s; see relay acl, or create it",
			r.Topic, errMissing, r.Err, brief.Detail(r.ErrMessage))
	}
	return fmt.Errorf("topic %s %w, and could not be created: %w%s", r.Topic, errMissing, r.Err, brief.Detail(r.ErrMessage))
}

// ErrJustCreated asks for one more look before the topic is used.
var ErrJustCreated = errors.New("the topic has just been created")
