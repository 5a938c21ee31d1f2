package transact

import (
	"context"
	"errors"

	"github.com/outbox-relay/relay/inbox/internal/failure"
)

// ErrForgotten says that the database is not in the Incarnation it was in: Postgres crashed, or
// another server was promoted. What was committed since the Incarnation was taken may be gone,
// effects and marks together. Nothing was done by the call that returns it, and IsUnavailable
// reports true for it.
var ErrForgotten = errors.New("inbox: Postgres crashed or failed over, and may have forgotten what was committed " +
	"since then; take a new Incarnation and handle the messages since the last Flush once more")

// Incarnation is a time during which Postgres forgot nothing that it had committed: it ends with a
// crash of the server, with a crash of one of its processes, and with the promotion of a standby. A
// restart in good order does not end it.
//
// It is a row of an unlogged table, inbox_incarnation: Postgres empties such a table whenever it
// recovers from a crash, and a standby never has its rows. So exactly the events that can remove an
// asynchronous commit remove the row too.
type Incarnation struct{ ID int64 }

// boundKey is the key of the incarnation of one inbox in a context; a handler may use several
// inboxes.
type boundKey struct{ inbox any }

// Bind returns a context for Handle, HandleBatch, Accept, AtMostOnce, Park and Seen under which
// they look, in their transaction, whether the database is in the incarnation still; otherwise they
// return ErrForgotten and change nothing. Without it a message may be handled after a crash has
// taken the effect of an earlier one of its key, and before this is known.
func (r *Runner[TTx]) Bind(ctx context.Context, to Incarnation) context.Context {
	return context.WithValue(ctx, boundKey{r}, to)
}

// Unbind returns a context that is bound to no incarnation of this Runner.
func (r *Runner[TTx]) Unbind(ctx context.Context) context.Context {
	return context.WithValue(ctx, boundKey{r}, nil)
}

// bound reports whether the context is bound.
func (r *Runner[TTx]) bound(ctx context.Context) (to Incarnation, is bool) {
	to, is = ctx.Value(boundKey{r}).(Incarnation)
	return to, is
}

// StillIn returns ErrForgotten if the context is bound to another incarnation than the one that a
// transaction is in.
func (r *Runner[TTx]) StillIn(ctx context.Context, id int64) error {
	if to, is := r.bound(ctx); is && to.ID != id {
		return failure.Unavailable(ErrForgotten)
	}
	return nil
}
