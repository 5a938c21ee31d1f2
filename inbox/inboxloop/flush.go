package inboxloop

import (
	"context"
	"errors"
	"fmt"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Incarnation returns the one that the database is in. Take it before the first message is handled
// of those that a later Flush is to speak for.
func (l *Loop[TTx]) Incarnation(ctx context.Context) (Incarnation, error) {
	var now transact.Incarnation
	err := l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			found, logged := false, false
			err := tx.Send(ctx, inboxdriver.Statement{SQL: l.ledger.SQL.Incarnate}, inboxdriver.Statement{
				SQL: l.ledger.SQL.Incarnation,
				Each: func(row inboxdriver.Row) error {
					found = true
					return row.Scan(&now.ID, &logged)
				},
			})
			switch {
			case err != nil:
				return false, failure.OfDatabase(ctx, err)
			case !found:
				return false, inbox.Unavailable(errors.New("the row was removed at this moment"))
			case logged:
				return false, fmt.Errorf("%w: inbox_incarnation is not UNLOGGED, so that it does not tell of a crash; "+
					"ALTER TABLE inbox_incarnation SET UNLOGGED", inbox.ErrSchema)
			}
			return true, nil
		})
	})
	if err != nil {
		return Incarnation{}, fmt.Errorf("read the incarnation of the database: %w", err)
	}
	return Incarnation{now}, nil
}

// ErrNoSession is what Flush returns if this process has no session any more: another process has
// opened its partitions.
var ErrNoSession = errors.New("inbox: another process has opened the partitions of this one: they went to it, or " +
	"it is of another group, whose inbox must have another name")

// Flush returns nil once all is on disk, and on the synchronous standbys, that was committed since
// the Incarnation was taken and before the call. With synchronous_commit = off a crash of Postgres
// forgets the last transactions, effects and marks together; so call Flush before an offset is
// committed, or a message acknowledged. It needs a partition that is open.
//
// ErrForgotten says that it cannot know: take a new Incarnation, and hand in again all messages
// since the last Flush that returned nil, in their order. Those that were not forgotten are
// duplicates.
func (l *Loop[TTx]) Flush(ctx context.Context, since Incarnation) error {
	var written, id int64
	err := l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			id = 0
			// A commit is flushed only if it has written something.
			err := tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
				SQL: l.ledger.SQL.Flush, Args: []any{l.ledger.Consumer, l.ledger.Session}, Affected: &written,
			}, inboxdriver.Statement{
				SQL:  l.ledger.SQL.Incarnation,
				Each: func(row inboxdriver.Row) error { return row.Scan(&id, new(bool)) },
			})
			return err == nil, failure.OfDatabase(ctx, err)
		})
	})
	switch {
	case err != nil:
		return fmt.Errorf("flush: %w", err)
	case id != since.of.ID || id == 0:
		return fmt.Errorf("flush: %w", inbox.Unavailable(ErrForgotten))
	case written == 0:
		return ErrNoSession
	}
	return nil
}
