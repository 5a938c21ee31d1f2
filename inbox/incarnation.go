package inbox

import (
	"context"
	"errors"
	"fmt"
)

// ErrForgotten says that the database is not in the Incarnation it was in: Postgres crashed, or another server was promoted. What was
// committed since the Incarnation was taken may be gone, effects and marks together. Nothing was done by the call that returns it, and
// IsUnavailable reports true for it.
var ErrForgotten = errors.New("inbox: Postgres crashed or failed over, and may have forgotten what was committed since then; " +
	"take a new Incarnation and handle the messages since the last Flush once more")

// Incarnation is a time during which Postgres forgot nothing that it had committed: it ends with a crash of the server, with a crash
// of one of its processes, and with the promotion of a standby. A restart in good order does not end it.
//
// It is a row of an unlogged table, inbox_incarnation: Postgres empties such a table whenever it recovers from a crash, and a standby
// never has its rows. So exactly the events that can take an asynchronous commit away take the row away too.
type Incarnation struct{ id int64 }

// Incarnation returns the one that the database is in. Take it before the first message is handled of those that a later Flush
// is to speak for.
func (i *Inbox[TTx]) Incarnation(ctx context.Context) (Incarnation, error) {
	var now Incarnation
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			found, logged := false, false
			err := tx.Send(ctx, Statement{SQL: i.sql.incarnate}, Statement{SQL: i.sql.incarnation, Each: func(row Row) error {
				found = true
				return row.Scan(&now.id, &logged)
			}})
			switch {
			case err != nil:
				return false, ofDatabase(ctx, err)
			case !found:
				return false, Unavailable(errors.New("the row was removed at this moment"))
			case logged:
				return false, fmt.Errorf("%w: inbox_incarnation is not UNLOGGED, so that it does not tell of a crash; "+
					"ALTER TABLE inbox_incarnation SET UNLOGGED", ErrSchema)
			}
			return true, nil
		})
	})
	if err != nil {
		return Incarnation{}, fmt.Errorf("read the incarnation of the database: %w", err)
	}
	return now, nil
}

// boundKey is the key of the incarnation of one inbox in a context; a handler may use several inboxes.
type boundKey struct{ inbox any }

// Bind returns a context for Handle, HandleBatch, Accept, AtMostOnce, Park and Seen under which they look, in their transaction, whether
// the database is in the incarnation still; otherwise they return ErrForgotten and change nothing. Without it a message may be handled
// after a crash has taken the effect of an earlier one of its key, and before anybody knows.
func (i *Inbox[TTx]) Bind(ctx context.Context, to Incarnation) context.Context {
	return context.WithValue(ctx, boundKey{i}, to)
}

// bound reports whether the context is bound.
func (i *Inbox[TTx]) bound(ctx context.Context) (to Incarnation, is bool) {
	to, is = ctx.Value(boundKey{i}).(Incarnation)
	return to, is
}

// stillIn returns ErrForgotten where the context is bound to another incarnation than the one that a transaction is in.
func (i *Inbox[TTx]) stillIn(ctx context.Context, id int64) error {
	if to, is := i.bound(ctx); is && to.id != id {
		return Unavailable(ErrForgotten)
	}
	return nil
}

// ErrNoSession is what Flush returns where this process has no session any more: another process has opened its partitions.
var ErrNoSession = errors.New("inbox: another process works on the partitions of this one")

// Flush returns nil once all is on disk, and on the synchronous standbys, that was committed since the Incarnation was taken and before the
// call. With synchronous_commit = off a crash of Postgres forgets the last transactions, effects and marks together; so call Flush
// before an offset is committed, or a message acknowledged. It needs a partition that is open.
//
// ErrForgotten says that it cannot know: take a new Incarnation, and hand in again all messages since the last Flush that returned
// nil, in their order. Those that were not forgotten are duplicates.
func (i *Inbox[TTx]) Flush(ctx context.Context, since Incarnation) error {
	var written, id int64
	err := i.again(ctx, func() error {
		return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
			id = 0
			// A commit is flushed only where it has written something.
			err := tx.Send(ctx, durably, Statement{
				SQL: i.sql.flush, Args: []any{i.cfg.Consumer, i.session}, Affected: &written,
			}, Statement{SQL: i.sql.incarnation, Each: func(row Row) error { return row.Scan(&id, new(bool)) }})
			return err == nil, ofDatabase(ctx, err)
		})
	})
	switch {
	case err != nil:
		return fmt.Errorf("flush: %w", err)
	case id != since.id || id == 0:
		return fmt.Errorf("flush: %w", Unavailable(ErrForgotten))
	case written == 0:
		return ErrNoSession
	}
	return nil
}
