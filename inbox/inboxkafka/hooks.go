package inboxkafka

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/outbox-relay/relay/inbox"
)

// Hooks are told of events; every one may be nil. They are called on the goroutine of the event:
// they must be quick and safe for concurrent use, and must not call the Consumer except for Stats.
// Their context has the values of Run's, and does not end.
type Hooks struct {
	// Handled receives each message that is done: with the result, how often the message had failed
	// before, and how long its transaction took (that of the whole batch, for each of its messages; 0
	// for a duplicate that was only looked up).
	Handled func(ctx context.Context, m inbox.Message, result inbox.Result, failures int, took time.Duration)

	// Transaction is told of each call of the inbox for one message or a batch, whatever came of it:
	// for how many messages it was, and how long it took, with the handler.
	Transaction func(ctx context.Context, messages int, took time.Duration)

	// Failed receives each message that failed and is tried again: with how often it has failed by
	// now, and how long its key waits.
	Failed func(ctx context.Context, m inbox.Message, failures int, wait time.Duration, err error)

	// Paused is told that the consumer pauses, because the database or what a handler called
	// unavailable is unavailable, and Resumed that it goes on.
	Paused  func(ctx context.Context, err error)
	Resumed func(ctx context.Context, after time.Duration)

	// Assigned receives partitions that this process works on from now on, and Revoked of those
	// that it has given back, or lost without notice.
	Assigned func(ctx context.Context, topic string, partition int32)
	Revoked  func(ctx context.Context, topic string, partition int32, lost bool)

	// Committed receives each offset that was committed, or was not, with the error.
	Committed func(ctx context.Context, topic string, partition int32, offset int64, err error)

	// FetchError receives errors of fetches that a person should know of: a topic that may not be
	// read, a log that has lost records.
	FetchError func(ctx context.Context, topic string, partition int32, err error)

	// Retried is told what came of the retry of a parked message; err is nil if the message is done.
	Retried func(ctx context.Context, m inbox.Message, result inbox.Result, err error)

	// Retention is told that marks are not kept for as long as their messages can come back, or that
	// this could not be found out. Nothing is removed meanwhile.
	Retention func(ctx context.Context, err error)

	// Swept receives each removal of old marks.
	Swept func(ctx context.Context, swept inbox.Swept, took time.Duration, err error)
}

// hooks calls those that are set.
type hooks struct {
	Hooks
	ctx context.Context // of Run, without its end
}

func (h *hooks) paused(err error) {
	if h.Paused != nil {
		h.Paused(h.ctx, err)
	}
}

func (h *hooks) resumed(after time.Duration) {
	if h.Resumed != nil {
		h.Resumed(h.ctx, after)
	}
}

func (h *hooks) handled(m inbox.Message, result inbox.Result, failures int, took time.Duration) {
	if h.Handled != nil {
		h.Handled(h.ctx, m, result, failures, took)
	}
}

func (h *hooks) transaction(messages int, took time.Duration) {
	if h.Transaction != nil {
		h.Transaction(h.ctx, messages, took)
	}
}

func (h *hooks) failed(m inbox.Message, failures int, wait time.Duration, err error) {
	if h.Failed != nil {
		h.Failed(h.ctx, m, failures, wait, err)
	}
}

func (h *hooks) assigned(p *schedule.Partition) {
	if h.Assigned != nil {
		h.Assigned(h.ctx, p.Topic, p.Number)
	}
}

func (h *hooks) revoked(p *schedule.Partition, lost bool) {
	if h.Revoked != nil {
		h.Revoked(h.ctx, p.Topic, p.Number, lost)
	}
}

func (h *hooks) committed(at schedule.TopicPartition, offset int64, err error) {
	if h.Committed != nil {
		h.Committed(h.ctx, at.Topic, at.Number, offset, err)
	}
}

func (h *hooks) fetchError(topic string, partition int32, err error) {
	if h.FetchError != nil {
		h.FetchError(h.ctx, topic, partition, err)
	}
}

func (h *hooks) retried(m inbox.Message, result inbox.Result, err error) {
	if h.Retried != nil {
		h.Retried(h.ctx, m, result, err)
	}
}

func (h *hooks) retention(err error) {
	if h.Retention != nil {
		h.Retention(h.ctx, err)
	}
}

func (h *hooks) swept(swept inbox.Swept, took time.Duration, err error) {
	if h.Swept != nil {
		h.Swept(h.ctx, swept, took, err)
	}
}
