package relay

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/brief"
)

// outages are the topics of a lane that cannot be written to now. An outage is never the fault of a row: the lane waits for
// a while, and then holds the rows of that topic, so that all others go on. It outlives a session.
type outages struct {
	mu     sync.Mutex
	topics map[string]*outage
	held   int    // how many of them are held
	text   string // what reason returns
	stale  bool   // it is to be made again

	// How long the lane waits for topics is one budget, however many topics there are: it fills up slowly, to patience.
	patience, left time.Duration
	filled         time.Time
}

// outage is one topic that is away.
type outage struct {
	cause   error
	missing time.Time // since when the cluster says that the topic does not exist; zero if it does not say so
	held    bool
	retry   time.Time     // when the topic is tried again
	pause   time.Duration // before that
}

// The pauses between the tries of a topic that is away, and of one that is held.
const (
	awayFirst   = 20 * time.Millisecond
	awayLongest = time.Second
	heldFirst   = time.Second
	heldLongest = 15 * time.Second
	heldMissing = 5 * time.Second // the longest if it does not exist: to look is all that it takes
)

// missingGrace is how long a topic may be missing before it is held: brokers learn of a new topic one after the other. If it
// takes them longer, its rows are parked, and go out a moment later.
const missingGrace = 200 * time.Millisecond

// refill is how long the lane goes on without waiting for each unit of time that it may wait again.
const refill = 50

// mostOutages bounds what is remembered of topics: anybody who may write a row may invent one. A held topic that is forgotten is
// looked up again when one of its rows comes up, and held again.
const mostOutages = 10_000

// mostDue bounds how many held topics are looked up in one request.
const mostDue = 500

// errMissing says that a topic does not exist, by the metadata of a cluster that answers.
var errMissing = errors.New("does not exist")

func newOutages(patience time.Duration) *outages {
	return &outages{patience: patience, left: patience, filled: time.Now(), topics: make(map[string]*outage)}
}

// spend records that the lane stood still for a topic. It must be called with d from when the standstill began until now.
func (o *outages) spend(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fill()
	o.left = max(0, o.left-d)
}

// fill brings the budget up to date.
func (o *outages) fill() {
	now := time.Now()
	o.left = min(o.patience, o.left+now.Sub(o.filled)/refill)
	o.filled = now
}

// add remembers a topic.
func (o *outages) add(topic string, out *outage) {
	for forgotten := range o.topics {
		if len(o.topics) < mostOutages {
			break
		}
		o.remove(forgotten)
	}
	o.topics[topic] = out
	if out.held {
		o.held++
	}
	o.stale = true
}

func (o *outages) remove(topic string) {
	if out, known := o.topics[topic]; known {
		if out.held {
			o.held--
		}
		delete(o.topics, topic)
		o.stale = true
	}
}

// note records that a topic is away, and reports whether it is held from now on: because it does not exist, or because the lane
// has waited for topics long enough.
func (o *outages) note(topic string, cause error) (begins bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out, known := o.topics[topic]
	if !known {
		out = new(outage)
		o.add(topic, out)
	}
	now := time.Now()
	out.cause, o.stale = cause, true
	if !errors.Is(cause, errMissing) {
		out.missing = time.Time{}
	} else if out.missing.IsZero() {
		out.missing = now
	}
	missing := !out.missing.IsZero()
	o.fill()
	if begins = !out.held && (o.left < min(awayFirst, o.patience/2) || missing && now.Sub(out.missing) >= missingGrace); begins {
		out.held, out.pause = true, 0
		o.held++
	}
	switch {
	case out.held && missing:
		out.pause = min(max(2*out.pause, heldFirst), heldMissing)
	case out.held:
		out.pause = min(max(2*out.pause, heldFirst), heldLongest)
	case missing:
		out.pause = missingGrace - now.Sub(out.missing)
	default:
		out.pause = min(max(2*out.pause, awayFirst), awayLongest)
	}
	out.retry = now.Add(out.pause)
	if out.held || !missing {
		out.retry = now.Add(backoff.Jitter(out.pause))
	}
	return begins
}

// pause is how long to wait before these records are sent: a topic that is away is not tried at every moment.
func (o *outages) pause(records []kgo.Record) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	pause := time.Duration(0)
	if len(o.topics) == o.held {
		return pause
	}
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
	if out, known := o.topics[topic]; known && out.held {
		return
	}
	o.remove(topic)
	o.add(topic, &outage{cause: errors.New(cause), held: true, retry: time.Now()})
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
			o.remove(records[i].Topic)
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
	return o.held > 0
}

// waiting returns the topics that are away and not held.
func (o *outages) waiting(topics []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var causes []string
	for _, topic := range topics {
		if out, known := o.topics[topic]; known && !out.held {
			causes = append(causes, out.cause.Error())
		}
	}
	if len(causes) == 0 {
		return nil
	}
	return errors.New(brief.Some(causes, "; "))
}

// due returns held topics that are to be tried again.
func (o *outages) due() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	var due []string
	for topic, out := range o.topics {
		if out.held && !now.Before(out.retry) {
			if due = append(due, topic); len(due) == mostDue {
				break
			}
		}
	}
	slices.Sort(due)
	return due
}

// reason says which topics are held and why, for the state of the lane; it is empty where none is.
func (o *outages) reason() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.stale {
		return o.text
	}
	var held []string
	for _, topic := range slices.Sorted(maps.Keys(o.topics)) {
		switch out := o.topics[topic]; {
		case !out.held:
		case len(held) < brief.Named:
			held = append(held, fmt.Sprintf("topic %s is away, and its aggregates are parked until it is back: %v", topic, out.cause))
		default:
			held = append(held, "")
		}
	}
	o.text, o.stale = brief.Some(held, "; "), false
	return o.text
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
