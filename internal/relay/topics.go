package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/brief"
)

// topicRegistry knows the topics that rows go to. A topic is looked up before anything is produced to it: a missing topic
// is waited for outside any transaction.
type topicRegistry struct {
	admin   *kadm.Client
	cfg     *Config
	outages *outages
	// clear is asked about topics before they are written to. It returns those that may not be, and why.
	clear func(context.Context, []string) (map[string]error, error)

	mu    sync.Mutex
	known map[string]knownTopic
	begun []string         // topics that have just been held; used by the producing goroutine
	given map[string]int32 // what the producers were told of a topic's limit, once
	// spread is how many partitions a topic had at the session's first look, whatever later ones say. Producers learn of more
	// at different times, which would send one key to and fro; the next session goes by the new number as a whole.
	spread map[string]int
}

// knownTopic is what a session goes by until it looks again.
type knownTopic struct {
	maxBytes   int32 // its max.message.bytes; 0 if it may not be read
	partitions int
	// minInSync is its min.insync.replicas.
	minInSync int
	// replicas in sync of the partition that has fewest.
	inSync int
}

// mostRecordBytes is the largest record that the relay sends: brokers close the connection on a request of more than 100 MiB
// (socket.request.max.bytes), which would look like an outage.
const mostRecordBytes = 100<<20 - 64<<10

func newTopicRegistry(cfg *Config, admin *kadm.Client, out *outages) *topicRegistry {
	return &topicRegistry{
		admin: admin, cfg: cfg, outages: out,
		known: make(map[string]knownTopic), given: make(map[string]int32), spread: make(map[string]int),
	}
}

// batchMaxBytes is the largest batch that the producers make for a topic. Each asks once for each partition it meets, so the
// answer stays the same for a session. A limit that is not known is no limit: the broker decides.
func (t *topicRegistry) batchMaxBytes(topic string) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if given, ok := t.given[topic]; ok {
		return given
	}
	known, ok := t.known[topic]
	if !ok {
		return mostRecordBytes // the checkpoint topic, or none at all
	}
	given := int32(mostRecordBytes)
	if known.maxBytes > 0 {
		given = min(max(known.maxBytes, 512), mostRecordBytes)
	}
	t.given[topic] = given
	return given
}

// limit is the size above which a record of the topic is not even tried: what was read from the brokers, or what the relay can
// send at all. A guess is none: a record may be refused only by a limit that is known, or by the broker.
func (t *topicRegistry) limit(topic string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := int32(mostRecordBytes)
	if known, ok := t.known[topic]; ok && known.maxBytes > 0 {
		limit = min(limit, known.maxBytes)
	}
	if given, ok := t.given[topic]; ok {
		limit = min(limit, given)
	}
	return int(limit)
}

// partitions is how many partitions keys are spread over, given how many the producer knows.
func (t *topicRegistry) partitions(topic string, producer int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.spread[topic]; ok {
		return n
	}
	return producer
}

// least is the smallest limit of any topic looked up so far.
func (t *topicRegistry) least() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	least := int32(mostRecordBytes)
	for _, known := range t.known {
		if known.maxBytes > 0 {
			least = min(least, known.maxBytes)
		}
	}
	for _, given := range t.given {
		least = min(least, given)
	}
	return int(least)
}

// someUnlimited reports whether the limit of any topic looked up so far is not known.
func (t *topicRegistry) someUnlimited() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, known := range t.known {
		if known.maxBytes == 0 {
			return true
		}
	}
	return false
}

// look returns what is known of a topic.
func (t *topicRegistry) look(topic string) (knownTopic, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[topic]
	return known, ok
}

// forget has the topic looked up again before its next use.
func (t *topicRegistry) forget(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.known, topic)
}

// topicsOf lists the topics of a page.
func topicsOf(p *page) []string {
	seen := make(map[string]bool)
	for i := range p.records {
		seen[p.records[i].Topic] = true
	}
	return slices.Collect(maps.Keys(seen))
}

// unknown returns which of the page's topics have not been looked up, but for those that are held.
func (t *topicRegistry) unknown(p *page) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var unknown []string
	var seen map[string]bool
	last := ""
	faults := p.faults
	for i := range p.records {
		topic := p.records[i].Topic
		if len(faults) > 0 && faults[0].at == i {
			faults = faults[1:] // its topic may be none
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
		if t.outages.isHeld(topic) == nil {
			unknown = append(unknown, topic)
		}
	}
	return unknown
}

// lookUp learns about topics, and makes those that are missing where the configuration says so. A topic that is away is
// noted as such. The error is that of the cluster as a whole; the caller waits and asks again.
func (t *topicRegistry) lookUp(ctx context.Context, topics []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	defer t.sayHeld()
	details, err := t.admin.ListTopics(ctx, topics...)
	if err != nil {
		return fmt.Errorf("look up topics %s: %w", brief.Some(topics, ", "), err)
	}
	var missing []string
	present := make(map[string]knownTopic)
	for _, topic := range topics {
		detail := details[topic]
		switch {
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition) && t.cfg.Topics.Create:
			missing = append(missing, topic)
		case errors.Is(detail.Err, kerr.UnknownTopicOrPartition):
			t.away(topic, fmt.Errorf("topic %s %w; create it, or set topics.create to true", topic, errMissing))
		case errors.Is(detail.Err, kerr.TopicAuthorizationFailed):
			t.away(topic, fmt.Errorf("topic %s may not be described or written to by this relay: %w; see relay acl", topic, detail.Err))
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

// refresh reads the limits of topics anew. Nothing is known of one that cannot be written to now.
func (t *topicRegistry) refresh(ctx context.Context, topics ...string) error {
	for _, topic := range topics {
		t.forget(topic)
	}
	return t.lookUp(ctx, topics)
}

// framing is more than what a batch of one record has beside keys, values and headers.
const framing = 1 << 10

// outgrown reports whether the producers go by a limit that a record of that size may exceed, and the topic takes it by now, as
// far as is known.
func (t *topicRegistry) outgrown(topic string, size int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.known[topic]
	given, asked := t.given[topic]
	return ok && asked && given < mostRecordBytes && size+framing > int(given) &&
		(known.maxBytes == 0 || known.maxBytes > given && size <= int(known.maxBytes))
}

// knownOf is what the metadata of a topic say.
func knownOf(detail kadm.TopicDetail) knownTopic {
	known := knownTopic{partitions: len(detail.Partitions), minInSync: 1}
	least := math.MaxInt
	for _, p := range detail.Partitions {
		inSync := len(p.ISR)
		if p.Leader < 0 {
			inSync = 0
		}
		least = min(least, inSync)
	}
	if known.partitions > 0 {
		known.inSync = least
	}
	return known
}

// away notes that a topic cannot be written to. The caller says so with sayHeld.
func (t *topicRegistry) away(topic string, cause error) {
	if t.outages.note(topic, cause) {
		t.begun = append(t.begun, fmt.Sprintf("%s: %v", topic, cause))
	}
}

// sayHeld logs which topics are held since it was called last.
func (t *topicRegistry) sayHeld() {
	if len(t.begun) == 0 {
		return
	}
	t.cfg.Logger.Error("topics are away; their aggregates are parked until they are back, all others go on",
		"topics", len(t.begun), "error", brief.Some(t.begun, "; "))
	t.begun = nil
}

// learn reads max.message.bytes of the topics, where the relay may.
func (t *topicRegistry) learn(ctx context.Context, topics map[string]knownTopic) error {
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
			t.away(topic, fmt.Errorf("topic %s has a partition with %d replicas in sync, and needs %d (min.insync.replicas)",
				topic, known.inSync, known.minInSync))
		}
	}
	if t.clear != nil && len(topics) > 0 {
		blocked, err := t.clear(ctx, slices.Collect(maps.Keys(topics)))
		if err != nil {
			return fmt.Errorf("see that earlier transactions are closed: %w", err)
		}
		for topic, cause := range blocked {
			delete(topics, topic)
			t.away(topic, cause)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) > mostOutages {
		clear(t.known) // they are looked up again
	}
	maps.Copy(t.known, topics)
	for topic, known := range topics {
		if _, ok := t.spread[topic]; !ok {
			t.spread[topic] = known.partitions
		}
	}
	return nil
}

// describe reads the settings of topics. The library takes a denial for one topic for that of the whole question, so where
// there is one each topic is asked about alone.
func (t *topicRegistry) describe(ctx context.Context, topics []string) (kadm.ResourceConfigs, error) {
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
func (t *topicRegistry) sayUnknown(topic string) {
	t.cfg.Logger.Warn("the settings of a topic may not be read (DescribeConfigs), so its max.message.bytes is not known; "+
		"batches are kept small, and the broker is asked about larger records one by one", "topic", topic, "batch_bytes", smallPiece)
}

// with adds what the settings of the topic say.
func (k knownTopic) with(settings []kadm.Config) knownTopic {
	for _, c := range settings {
		if c.Value == nil {
			continue
		}
		n, err := strconv.ParseInt(*c.Value, 10, 32)
		if err != nil || n <= 0 {
			continue
		}
		switch c.Key {
		case "max.message.bytes":
			k.maxBytes = int32(n)
		case "min.insync.replicas":
			k.minInSync = int(n)
		}
	}
	return k
}

// create makes the topics. Those that could not be made are noted as away. The error is errJustCreated if any is there now: it
// is looked up again before it is used, because a new topic takes a moment to have leaders.
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
		return fmt.Errorf("create topics %s: %w", brief.Some(topics, ", "), err)
	}
	made := false
	for _, r := range responses.Sorted() {
		if errors.Is(r.Err, kerr.TopicAlreadyExists) {
			made = true
			continue
		}
		if r.Err != nil {
			t.away(r.Topic, notCreated(r))
			continue
		}
		made = true
		t.cfg.Logger.Info("topic created", "topic", r.Topic, "partitions", partitions, "replication_factor", replication)
	}
	if !made {
		return nil
	}
	return errJustCreated
}

// notCreated says why a topic that does not exist could not be made.
func notCreated(r kadm.CreateTopicResponse) error {
	if errors.Is(r.Err, kerr.TopicAuthorizationFailed) {
		return fmt.Errorf("topic %s %w, and this relay may not make it (Create is denied): %w%s; see relay acl, or create it",
			r.Topic, errMissing, r.Err, brief.Detail(r.ErrMessage))
	}
	return fmt.Errorf("topic %s %w, and could not be created: %w%s", r.Topic, errMissing, r.Err, brief.Detail(r.ErrMessage))
}

// errJustCreated asks for one more look before the topic is used.
var errJustCreated = errors.New("the topic has just been created")
