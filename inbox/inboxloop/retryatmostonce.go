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

// RetryAtMostOnce is Retry for effects of AtMostOnce. The first parked message of the key is
// claimed, its effect runs, and then claim and message go. A message that is found claimed ended
// with its process, or failed with an unknown outcome, when it was tried last: it is not run again,
// and leaves the queue for inbox_audit, with the result Audited. It takes two connections of the
// pool.
func (l *Loop[TTx]) RetryAtMostOnce(
	ctx context.Context, key ParkedKey, handler func(ctx context.Context, m inbox.Message) error,
) (Retried, error) {
	done := Retried{Left: true}
	err := l.ledger.DoHandling(ctx, nil, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		// The transaction holds the key all the while, so that no other process finds the claim of a
		// run that goes on.
		head, err := l.head(ctx, tx, key)
		if err != nil || !head.found {
			done.Busy = !head.taken
			return false, err
		}
		if head.cause == inbox.CauseSize {
			return false, inbox.Permanent(errUnread)
		}
		done.Message, done.Row = head.Message, head.row
		if done.Result, err = l.retryClaimed(ctx, head.Message, handler); err != nil {
			return false, err
		}
		id := identify(head.Message)
		err = tx.Send(ctx, ledger.Durably, inboxdriver.Statement{SQL: l.ledger.SQL.DropParked, Args: []any{head.row}},
			inboxdriver.Statement{SQL: l.ledger.SQL.SettleClaim, Args: []any{l.ledger.Consumer, id.Source, id.Mark.String()}})
		return true, failure.OfDatabase(ctx, err)
	}, transact.ReadCommitted, l.ledger.HandlerBounds().Set()) // the claim is not older than the transaction
	if err == nil && !done.Busy && done.Message.ID == "" {
		done.Left, err = l.release(ctx, key)
	}
	if err != nil {
		return done, fmt.Errorf("retry the first parked message of key %d: %w", key.ID, err)
	}
	return done, nil
}

// retryClaimed runs the effect of a parked message, unless it is claimed already.
func (l *Loop[TTx]) retryClaimed(
	ctx context.Context, m inbox.Message, handler func(context.Context, inbox.Message) error,
) (inbox.Result, error) {
	id := identify(m)
	result := inbox.Failed
	limited, cancel := context.WithTimeout(ctx, l.ledger.AnswerTimeout())
	defer cancel()
	err := l.ledger.Rerun(limited, func() error {
		return l.ledger.Do(limited, func(tx inboxdriver.Tx, _ TTx) (_ bool, err error) {
			ctx := limited
			var unknown bool
			if unknown, err = l.ledger.SeenAgain(ctx, tx, subject(m, id)); err != nil || unknown {
				result = inbox.Audited
				return true, err
			}
			return true, failure.OfStatement(ctx, tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
				SQL: l.ledger.SQL.Claim, Args: []any{l.ledger.Consumer, id.Source, id.Mark.String(), l.ledger.Instance},
			}))
		})
	})
	if limited.Err() != nil && ctx.Err() == nil {
		return inbox.Failed, fmt.Errorf("no second connection in %v; give the pool at least two: %w",
			l.ledger.AnswerTimeout(), err)
	}
	if err != nil || result == inbox.Audited {
		return result, err
	}
	err = l.ledger.Call(inbox.WithMessage(ctx, m), nil, func(ctx context.Context) error { return handler(ctx, m) })
	if err == nil {
		return inbox.Processed, nil
	}
	settling, cancel := l.ledger.Settling(ctx)
	defer cancel()
	if failure.SaysNothingHappened(err) {
		return inbox.Failed, errors.Join(err, l.ledger.Settle(settling, id,
			func(inboxdriver.Tx, bool, bool) error { return nil }))
	}
	return inbox.Failed, errors.Join(err, l.ledger.NoteFailure(settling, id, err))
}
