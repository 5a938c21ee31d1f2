package inboxloop

import (
	"context"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Loop is what a consumer loop asks an inbox beside handling messages. Its methods may be called
// from many goroutines.
type Loop[TTx any] struct{ ledger *ledger.Ledger[TTx] }

// New returns the loop's side of an inbox.
func New[TTx any](in *inbox.Inbox[TTx]) *Loop[TTx] { return &Loop[TTx]{ledger.From[TTx](in)} }

// Connections returns how many connections the pool had at most when the inbox was made; 0 is no
// bound.
func (l *Loop[TTx]) Connections() int { return l.ledger.Connections }

// check returns ErrInvalid for a message that can have no mark.
func check(m inbox.Message) error { return ledger.Check(m.ID, m.Source, m.Topic, m.Type) }

func identify(m inbox.Message) ledger.Identity { return ledger.Identify(m.Source, m.ID) }

func subject(m inbox.Message, id ledger.Identity) ledger.Subject {
	return ledger.Subject{
		Identity: id, ID: m.ID, Topic: m.Topic, Type: m.Type, Key: m.Key, Partition: m.Partition, Offset: m.Offset,
	}
}

// ErrForgotten says that the database is not in the Incarnation it was in: Postgres crashed, or
// another server was promoted. What was committed since the Incarnation was taken may be gone,
// effects and marks together. Nothing was done by the call that returns it, and inbox.IsUnavailable
// reports true for it.
var ErrForgotten = transact.ErrForgotten

// Incarnation is a time during which Postgres forgot nothing that it had committed: it ends with a
// crash of the server, with a crash of one of its processes, and with the promotion of a standby. A
// restart in good order does not end it.
type Incarnation struct{ of transact.Incarnation }

// Bind returns a context for Handle, HandleBatch, Accept, AtMostOnce and Park of the inbox, and for
// Seen, under which they look, in their transaction, whether the database is in the incarnation
// still; otherwise they return ErrForgotten and change nothing. Without it a message may be handled
// after a crash has taken the effect of an earlier one of its key, and before this is known.
func (l *Loop[TTx]) Bind(ctx context.Context, to Incarnation) context.Context {
	return l.ledger.Bind(ctx, to.of)
}
