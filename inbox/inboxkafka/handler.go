package inboxkafka

import (
	"context"

	"github.com/outbox-relay/relay/inbox"
)

// Handler is what a Consumer does with messages. Handle, HandleBatch and AtMostOnce make one.
type Handler[TTx any] struct {
	one  func(ctx context.Context, tx TTx, m inbox.Message) error
	many func(ctx context.Context, tx TTx, messages []inbox.Message) error
	once func(ctx context.Context, m inbox.Message) error
}

// Handle calls the function once for each message, in the transaction that marks the message as
// handled. It should change nothing but the database, because it is called again if its transaction
// was rolled back.
func Handle[TTx any](handler func(ctx context.Context, tx TTx, m inbox.Message) error) Handler[TTx] {
	return Handler[TTx]{one: handler}
}

// HandleBatch calls the function with many messages in one transaction, mostly of several keys,
// those of one key in order; see HandleBatch of inbox.Inbox. It reaches several times the speed of
// Handle if the function, too, does its work in few statements.
func HandleBatch[TTx any](handler func(ctx context.Context, tx TTx, messages []inbox.Message) error) Handler[TTx] {
	return Handler[TTx]{many: handler}
}

// AtMostOnce calls the function for effects that no database rolls back, such as an e-mail: at most
// once for each message, unless it says inbox.NotDone or inbox.Unavailable. What was begun and is
// not known to be done when the process ended is in inbox_audit. TTx is that of the inbox, as in
// AtMostOnce[pgx.Tx](send).
func AtMostOnce[TTx any](handler func(ctx context.Context, m inbox.Message) error) Handler[TTx] {
	return Handler[TTx]{once: handler}
}

// mode is how messages are handled.
type mode int

const (
	unset mode = iota
	oneByOne
	inBatches
	atMostOnce
)

func (h Handler[TTx]) mode() mode {
	switch {
	case h.one != nil:
		return oneByOne
	case h.many != nil:
		return inBatches
	case h.once != nil:
		return atMostOnce
	}
	return unset
}

// handleOne calls the handler with one message.
func (h Handler[TTx]) handleOne(ctx context.Context, tx TTx, m inbox.Message) error {
	if h.many != nil {
		return h.many(ctx, tx, []inbox.Message{m})
	}
	return h.one(ctx, tx, m)
}

// handleMany calls the handler for a batch.
func (h Handler[TTx]) handleMany(ctx context.Context, tx TTx, messages []inbox.Message) error {
	if h.many != nil {
		return h.many(ctx, tx, messages)
	}
	for n, m := range messages {
		if err := h.one(inbox.WithMessage(ctx, m), tx, m); err != nil {
			return inbox.At(n, err)
		}
	}
	return nil
}
