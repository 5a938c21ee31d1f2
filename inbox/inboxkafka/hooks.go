package inboxkafka

import (
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// Hook is told of events. It implements one or more of the interfaces named Hook..., and is asked for each of them. Its methods
// are called on the goroutine of the event: they must be quick and safe for concurrent use, and must not call the Consumer but for
// Stats.
type Hook any

// HookHandled is told of each message that is done.
type HookHandled interface {
	// OnHandled gets the result, how often the message had failed before, and how long its transaction took (that of the whole
	// batch, for each of its messages; 0 for a duplicate that was only looked up).
	OnHandled(m inbox.Message, result inbox.Result, failures int, took time.Duration)
}

// HookFailed is told of each message that failed and is tried again.
type HookFailed interface {
	// OnFailed gets how often the message has failed by now, and how long its key waits.
	OnFailed(m inbox.Message, failures int, wait time.Duration, err error)
}

// HookPaused is told that the consumer pauses, since the database or what a handler called unavailable is away.
type HookPaused interface {
	OnPaused(err error)
}

// HookResumed is told that the consumer goes on after a pause.
type HookResumed interface {
	OnResumed(after time.Duration)
}

// HookAssigned is told of partitions that this process works on from now on.
type HookAssigned interface {
	OnAssigned(topic string, partition int32)
}

// HookRevoked is told of partitions that this process has given back, or lost without notice.
type HookRevoked interface {
	OnRevoked(topic string, partition int32, lost bool)
}

// HookCommitted is told of each offset that was committed, or not.
type HookCommitted interface {
	OnCommitted(topic string, partition int32, offset int64, err error)
}

// HookFetchError is told of errors of fetches that a person should know of: a topic that may not be read, a log that has lost
// records.
type HookFetchError interface {
	OnFetchError(topic string, partition int32, err error)
}

// HookRetried is told what came of the retry of a parked message.
type HookRetried interface {
	// OnRetried gets a nil error where the message is done.
	OnRetried(m inbox.Message, result inbox.Result, err error)
}

// HookRetention is told that marks are not kept for as long as their messages can come back, or that this could not be found out.
// Nothing is removed meanwhile.
type HookRetention interface {
	OnRetention(err error)
}

// HookSwept is told of each removal of old marks.
type HookSwept interface {
	OnSwept(swept inbox.Swept, took time.Duration, err error)
}

type hooks []Hook

func each[T any](h hooks, call func(T)) {
	for _, hook := range h {
		if t, ok := hook.(T); ok {
			call(t)
		}
	}
}

func (h hooks) paused(err error) { each(h, func(t HookPaused) { t.OnPaused(err) }) }
func (h hooks) resumed(d time.Duration) {
	each(h, func(t HookResumed) { t.OnResumed(d) })
}
func (h hooks) handled(m inbox.Message, result inbox.Result, failures int, took time.Duration) {
	each(h, func(t HookHandled) { t.OnHandled(m, result, failures, took) })
}
func (h hooks) failed(m inbox.Message, failures int, wait time.Duration, err error) {
	each(h, func(t HookFailed) { t.OnFailed(m, failures, wait, err) })
}
func (h hooks) assigned(p *partition) {
	each(h, func(t HookAssigned) { t.OnAssigned(p.topic, p.number) })
}
func (h hooks) revoked(p *partition, lost bool) {
	each(h, func(t HookRevoked) { t.OnRevoked(p.topic, p.number, lost) })
}
func (h hooks) committed(at place, offset int64, err error) {
	each(h, func(t HookCommitted) { t.OnCommitted(at.topic, at.number, offset, err) })
}
func (h hooks) fetchError(topic string, partition int32, err error) {
	each(h, func(t HookFetchError) { t.OnFetchError(topic, partition, err) })
}
func (h hooks) retried(m inbox.Message, result inbox.Result, err error) {
	each(h, func(t HookRetried) { t.OnRetried(m, result, err) })
}
func (h hooks) retention(err error) { each(h, func(t HookRetention) { t.OnRetention(err) }) }
func (h hooks) swept(swept inbox.Swept, took time.Duration, err error) {
	each(h, func(t HookSwept) { t.OnSwept(swept, took, err) })
}
