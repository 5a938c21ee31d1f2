package inboxkafka

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// store is an inbox with its handler, as the consumer sees it: the type of the transaction does not
// show. raised is set if the handler returned an error.
type store interface {
	records
	mode() mode
	handle(ctx context.Context, m inbox.Message, raised *atomic.Bool) (inbox.Result, error)
	handleBatch(ctx context.Context, messages []inbox.Message, raised *atomic.Bool) ([]inbox.Outcome, error)
	retry(ctx context.Context, key inboxloop.ParkedKey, raised *atomic.Bool) (inboxloop.Retried, error)
}

// records is what an inbox knows of messages and partitions.
type records interface {
	Check(context.Context) error
	Incarnation(context.Context) (inboxloop.Incarnation, error)
	Bind(context.Context, inboxloop.Incarnation) context.Context
	Flush(context.Context, inboxloop.Incarnation) error
	Park(ctx context.Context, m inbox.Message, cause inbox.Cause, attempts int, why error) (inbox.Result, error)
	Seen(context.Context, []inbox.Message) ([]bool, error)
	Started(context.Context, []inbox.Message) ([]int, error)
	Start(context.Context, []inbox.Message) ([]int, error)
	Open(ctx context.Context, topic string, partition int32) (crashed bool, err error)
	Close(ctx context.Context, topic string, partition int32) error
	Requested(ctx context.Context, limit int) ([]inboxloop.ParkedKey, error)
	Parked(context.Context) (keys int64, oldest time.Duration, err error)
	RetryFailed(ctx context.Context, key inboxloop.ParkedKey, why error) error
	Claim(ctx context.Context, keep time.Duration, claimants ...string) ([]inboxloop.OtherClaim, error)
	Sweep(context.Context) (inbox.Swept, error)
}

// inboxOf is an inbox whose handlers get transactions of type TTx. Tests put their own in its
// place.
type inboxOf[TTx any] interface {
	records
	Handle(context.Context, inbox.Message, func(context.Context, TTx) error) (inbox.Result, error)
	HandleBatch(
		context.Context, []inbox.Message, func(context.Context, TTx, []inbox.Message) error,
	) ([]inbox.Outcome, error)
	AtMostOnce(context.Context, inbox.Message, func(context.Context) error) (inbox.Result, error)
	Retry(
		context.Context, inboxloop.ParkedKey, func(context.Context, TTx, inbox.Message) error,
	) (inboxloop.Retried, error)
	RetryAtMostOnce(
		context.Context, inboxloop.ParkedKey, func(context.Context, inbox.Message) error,
	) (inboxloop.Retried, error)
}

// both are the two sides of an inbox: what services call, and what a loop needs besides.
type both[TTx any] struct {
	*inbox.Inbox[TTx]
	*inboxloop.Loop[TTx]
}

// handling is an inbox with its handler.
type handling[TTx any] struct {
	inboxOf[TTx]
	handler Handler[TTx]
}

func (h handling[TTx]) mode() mode { return h.handler.mode() }

func (h handling[TTx]) handle(ctx context.Context, m inbox.Message, raised *atomic.Bool) (inbox.Result, error) {
	if h.handler.once != nil {
		return h.AtMostOnce(ctx, m, func(ctx context.Context) error { return note(raised, h.handler.once(ctx, m)) })
	}
	return h.Handle(ctx, m, func(ctx context.Context, tx TTx) error {
		return note(raised, h.handler.handleOne(ctx, tx, m))
	})
}

func (h handling[TTx]) handleBatch(
	ctx context.Context, messages []inbox.Message, raised *atomic.Bool,
) ([]inbox.Outcome, error) {
	return h.HandleBatch(ctx, messages, func(ctx context.Context, tx TTx, messages []inbox.Message) error {
		return note(raised, h.handler.handleMany(ctx, tx, messages))
	})
}

func (h handling[TTx]) retry(
	ctx context.Context, key inboxloop.ParkedKey, raised *atomic.Bool,
) (inboxloop.Retried, error) {
	if h.handler.once != nil {
		return h.RetryAtMostOnce(ctx, key, func(ctx context.Context, m inbox.Message) error {
			return note(raised, h.handler.once(ctx, m))
		})
	}
	return h.Retry(ctx, key, func(ctx context.Context, tx TTx, m inbox.Message) error {
		return note(raised, h.handler.handleOne(ctx, tx, m))
	})
}

// note remembers that a handler returned an error.
func note(raised *atomic.Bool, err error) error {
	if err != nil {
		raised.Store(true)
	}
	return err
}
