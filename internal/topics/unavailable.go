package topics

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/brief"
)

// Unavailable are the topics of a lane that cannot be written to now. An outage is never the fault
// of a row: the lane waits for a while, and then suspends it: it sets aside the rows of that topic,
// so that all others go on. It outlives a session.
type Unavailable struct {
	mu        sync.Mutex
	byName    map[string]*unavailableTopic
	suspended int    // how many of them are suspended
	text      string // what Reason returns
	stale     bool   // it is to be made again

	// How long the lane waits for topics is one budget, however many topics there are: it fills up
	// slowly, to timeout.
	timeout, left time.Duration
	filled        time.Time
}

// unavailableTopic is one topic that is unavailable.
type unavailableTopic struct {
	cause     error
	missing   time.Time // since when the cluster says that the topic does not exist; zero if it does not say so
	suspended bool
	retry     time.Time     // when the topic is tried again
	pause     time.Duration // before that
}

// The pauses between the tries of a topic that is unavailable, and of one that is suspended.
const (
	unavailableFirst   = 20 * time.Millisecond
	unavailableLongest = time.Second
	suspendedFirst     = time.Second
	suspendedLongest   = 15 * time.Second
	suspendedMissing   = 5 * time.Second // the longest if it does not exist: to look is all that it takes
)

// MissingGrace is how long a topic may be missing before it is suspended: brokers learn of a new
// topic one after the other. If it takes them longer, its rows are parked, and go out a moment
// later.
const MissingGrace = 200 * time.Millisecond

// refill is how long the lane goes on without waiting for each unit of time that it may wait again.
const refill = 50

// maxUnavailable bounds what is remembered of topics: a login that may write a row may invent one.
// A suspended topic that is forgotten is looked up again when one of its rows comes up, and
// suspended again.
const maxUnavailable = 10_000

// mostDue bounds how many suspended topics are looked up in one request.
const mostDue = 500

// errMissing says that a topic does not exist, by the metadata of a cluster that answers.
var errMissing = errors.New("does not exist")

// NewUnavailable waits for topics for so long altogether before it suspends them.
func NewUnavailable(timeout time.Duration) *Unavailable {
	return &Unavailable{timeout: timeout, left: timeout, filled: time.Now(), byName: make(map[string]*unavailableTopic)}
}

// Spend records that the lane stood still for a topic. It must be called with d from when the
// standstill began until now.
func (u *Unavailable) Spend(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fill()
	u.left = max(0, u.left-d)
}

// fill brings the budget up to date.
func (u *Unavailable) fill() {
	now := time.Now()
	u.left = min(u.timeout, u.left+now.Sub(u.filled)/refill)
	u.filled = now
}

// add remembers a topic.
func (u *Unavailable) add(topic string, out *unavailableTopic) {
	for forgotten := range u.byName {
		if len(u.byName) < maxUnavailable {
			break
		}
		u.remove(forgotten)
	}
	u.byName[topic] = out
	if out.suspended {
		u.suspended++
	}
	u.stale = true
}

func (u *Unavailable) remove(topic string) {
	if out, known := u.byName[topic]; known {
		if out.suspended {
			u.suspended--
		}
		delete(u.byName, topic)
		u.stale = true
	}
}

// note records that a topic is unavailable, and reports whether it is suspended from now on:
// because it does not exist, or because the lane has waited for topics long enough.
func (u *Unavailable) note(topic string, cause error) (begins bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	out, known := u.byName[topic]
	if !known {
		out = new(unavailableTopic)
		u.add(topic, out)
	}
	now := time.Now()
	out.cause, u.stale = cause, true
	if !errors.Is(cause, errMissing) {
		out.missing = time.Time{}
	} else if out.missing.IsZero() {
		out.missing = now
	}
	missing := !out.missing.IsZero()
	u.fill()
	if begins = !out.suspended && (u.left < min(unavailableFirst, u.timeout/2) || missing && now.Sub(out.missing) >= MissingGrace); begins {
		out.suspended, out.pause = true, 0
		u.suspended++
	}
	switch {
	case out.suspended && missing:
		out.pause = min(max(2*out.pause, suspendedFirst), suspendedMissing)
	case out.suspended:
		out.pause = min(max(2*out.pause, suspendedFirst), suspendedLongest)
	case missing:
		out.pause = MissingGrace - now.Sub(out.missing)
	default:
		out.pause = min(max(2*out.pause, unavailableFirst), unavailableLongest)
	}
	out.retry = now.Add(out.pause)
	if out.suspended || !missing {
		out.retry = now.Add(backoff.Jitter(out.pause))
	}
	return begins
}

// Pause is how long to wait before these records are sent: a topic that is unavailable is not tried
// at every moment.
func (u *Unavailable) Pause(records []kgo.Record) time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	pause := time.Duration(0)
	if len(u.byName) == u.suspended {
		return pause
	}
	for i := range records {
		if out, known := u.byName[records[i].Topic]; known && !out.suspended {
			pause = max(pause, time.Until(out.retry))
		}
	}
	return pause
}

// Suspend suspends a topic whose rows an earlier session has set aside.
func (u *Unavailable) Suspend(topic, cause string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if out, known := u.byName[topic]; known && out.suspended {
		return
	}
	u.remove(topic)
	u.add(topic, &unavailableTopic{cause: errors.New(cause), suspended: true, retry: time.Now()})
}

// Written records that a transaction has written to the topics of these records, but for those left
// out.
func (u *Unavailable) Written(records []kgo.Record, drop []bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.byName) == 0 {
		return
	}
	for i := range records {
		if drop == nil || !drop[i] {
			u.remove(records[i].Topic)
		}
	}
}

// Suspended returns why a topic is suspended, or nil if it is not.
func (u *Unavailable) Suspended(topic string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if out, known := u.byName[topic]; known && out.suspended {
		return out.cause
	}
	return nil
}

// AnySuspended reports whether any topic is suspended.
func (u *Unavailable) AnySuspended() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.suspended > 0
}

// Waiting returns the topics that are unavailable and not suspended; IsWaiting knows the error.
func (u *Unavailable) Waiting(topics []string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var causes []string
	for _, topic := range topics {
		if out, known := u.byName[topic]; known && !out.suspended {
			causes = append(causes, out.cause.Error())
		}
	}
	if len(causes) == 0 {
		return nil
	}
	return waitingError(brief.Some(causes, "; "))
}

type waitingError string

func (e waitingError) Error() string { return string(e) }

// IsWaiting reports whether an error is one of Waiting.
func IsWaiting(err error) bool {
	_, ok := errors.AsType[waitingError](err)
	return ok
}

// Due returns suspended topics that are to be tried again.
func (u *Unavailable) Due() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	var due []string
	for topic, out := range u.byName {
		if out.suspended && !now.Before(out.retry) {
			if due = append(due, topic); len(due) == mostDue {
				break
			}
		}
	}
	slices.Sort(due)
	return due
}

// Reason says which topics are suspended and why, for the state of the lane; it is empty where none
// is.
func (u *Unavailable) Reason() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.stale {
		return u.text
	}
	var held []string
	for _, topic := range slices.Sorted(maps.Keys(u.byName)) {
		switch out := u.byName[topic]; {
		case !out.suspended:
		case len(held) < brief.Named:
			held = append(held, fmt.Sprintf("topic %s is unavailable, and its aggregates are parked until it is back: %v", topic, out.cause))
		default:
			held = append(held, "")
		}
	}
	u.text, u.stale = brief.Some(held, "; "), false
	return u.text
}
