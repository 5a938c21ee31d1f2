package relay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// outages are the topics of a lane that cannot be written to now. An outage is never the fault of a row: the lane waits for
// a while, and then holds the rows of that topic, so that all others go on. It outlives a session.
type outages struct {
	patience time.Duration

	mu     sync.Mutex
	topics map[string]*outage
}

// outage is one topic that is away.
type outage struct {
	cause error
	since time.Time
	held  bool
	retry time.Time     // when the topic is tried again
	pause time.Duration // before that
}

// The pauses between the tries of a topic that is away, and of one that is held.
const (
	awayFirst   = 20 * time.Millisecond
	awayLongest = time.Second
	heldFirst   = time.Second
	heldLongest = 15 * time.Second
)

func newOutages(patience time.Duration) *outages {
	return &outages{patience: patience, topics: make(map[string]*outage)}
}

// note records that a topic is away, and reports whether it is held from now on.
func (o *outages) note(topic string, cause error) (begins bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, known := o.topics[topic]
	if !known {
		out = &outage{since: time.Now()}
		o.topics[topic] = out
	}
	out.cause = cause
	least, most := awayFirst, awayLongest
	if begins = !out.held && time.Since(out.since) >= o.patience; begins {
		out.held, out.pause = true, 0
	}
	if out.held {
		least, most = heldFirst, heldLongest
	}
	out.pause = min(max(2*out.pause, least), most)
	out.retry = time.Now().Add(jitter(out.pause))
	return begins
}

// pause is how long to wait before these records are sent: a topic that is away is not tried at every moment.
func (o *outages) pause(records []kgo.Record) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.topics) == 0 {
		return 0
	}
	pause := time.Duration(0)
	for i := range records {
		if out, known := o.topics[records[i].Topic]; known && !out.held {
			pause = max(pause, time.Until(out.retry))
		}
	}
	return pause
}

// resume holds a topic whose rows an earlier session has set aside.
func (o *outages) resume(topic, cause string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, known := o.topics[topic]; known {
		out.held = true
		return
	}
	o.topics[topic] = &outage{cause: errors.New(cause), since: time.Now(), held: true, retry: time.Now()}
}

// written records that a transaction has written to the topics of these records, but for those left out.
func (o *outages) written(records []kgo.Record, drop []bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.topics) == 0 {
		return
	}
	for i := range records {
		if drop == nil || !drop[i] {
			delete(o.topics, records[i].Topic)
		}
	}
}

// isHeld returns why a topic is held, or nil where it is not.
func (o *outages) isHeld(topic string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, known := o.topics[topic]; known && out.held {
		return out.cause
	}
	return nil
}

// any reports whether any topic is held.
func (o *outages) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, out := range o.topics {
		if out.held {
			return true
		}
	}
	return false
}

// waiting returns the topics that are away and not held.
func (o *outages) waiting(topics []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var causes []error
	for _, topic := range topics {
		if out, known := o.topics[topic]; known && !out.held {
			causes = append(causes, out.cause)
		}
	}
	return errors.Join(causes...)
}

// due returns the held topics that are to be tried again.
func (o *outages) due() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var due []string
	for topic, out := range o.topics {
		if out.held && !time.Now().Before(out.retry) {
			due = append(due, topic)
		}
	}
	slices.Sort(due)
	return due
}

// reason says which topics are held and why, for the state of the lane; it is empty where none is.
func (o *outages) reason() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var held []string
	for _, topic := range slices.Sorted(maps.Keys(o.topics)) {
		if out := o.topics[topic]; out.held {
			held = append(held, fmt.Sprintf("topic %s is away, and its aggregates are parked until it is back: %v", topic, out.cause))
		}
	}
	return strings.Join(held, "; ")
}

// isOutage reports whether a produce error speaks of the topic or of its brokers, so that the record is good and the
// topic is to be waited for.
func isOutage(err error) bool {
	for _, cause := range []error{
		kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.NotEnoughReplicas,
		kerr.NotEnoughReplicasAfterAppend, kerr.LeaderNotAvailable, kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.PolicyViolation,
		kgo.ErrRecordTimeout, kgo.ErrRecordRetries,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}
