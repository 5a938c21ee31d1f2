package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/tables"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Settling returns a context for what follows an effect. Its outcome is known to this process only,
// so it is written down even if ctx has ended, and also after a crash of the database: a claim is
// on disk before its effect begins.
func (l *Ledger[TTx]) Settling(ctx context.Context) (context.Context, context.CancelFunc) {
	free := l.Unbind(context.WithoutCancel(ctx))
	return context.WithTimeout(free, l.HandlerTimeout)
}

// NoteFailure leaves the claim, with the error of its effect, whose outcome is unknown.
func (l *Ledger[TTx]) NoteFailure(ctx context.Context, id Identity, why error) error {
	return l.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return true, failure.OfDatabase(ctx, tx.Send(ctx, Durably, inboxdriver.Statement{
			SQL: l.SQL.FailClaim, Args: []any{l.Consumer, id.Source, id.Mark.String(), l.ErrorText(why)},
		}))
	})
}

// MarkedBefore is SeenAgain for a message whose mark was found in a statement before. A claim that
// is gone since was settled, or released together with its mark: then no other process brings the
// message back, and it is tried once more (ErrReleased).
func (l *Ledger[TTx]) MarkedBefore(ctx context.Context, tx inboxdriver.Tx, m Subject) (unknown bool, err error) {
	unknown, err = l.SeenAgain(ctx, tx, m)
	if err != nil || unknown {
		return unknown, err
	}
	marked := false
	err = tx.Send(ctx, inboxdriver.Statement{
		SQL: l.SQL.HasMark, Args: []any{l.Consumer, m.Source, m.Mark.String()},
		Each: func(row inboxdriver.Row) error { return row.Scan(&marked) },
	})
	if err == nil && !marked {
		return false, failure.ErrReleased
	}
	return false, failure.OfStatement(ctx, err)
}

// SeenAgain tells a message that is done from one whose effect was begun and whose outcome is
// unknown, which the audit has by then. It notes in the claim that the message is passed, under the
// lock of its row, so that the process that has begun the effect finds that out when it settles the
// claim.
func (l *Ledger[TTx]) SeenAgain(ctx context.Context, tx inboxdriver.Tx, m Subject) (unknown bool, err error) {
	var instance string
	var since time.Time
	var why *string
	err = tx.Send(ctx, inboxdriver.Statement{
		SQL: l.SQL.SeeClaim, Args: []any{l.Consumer, m.Source, m.Mark.String()},
		Each: func(row inboxdriver.Row) error {
			unknown = true
			return row.Scan(&instance, &since, &why)
		},
	})
	if err != nil || !unknown {
		return false, failure.OfStatement(ctx, err)
	}
	details := map[string]any{
		"claimed_by": instance, "claimed_at": since.UTC(), "error": why, "seen_by": l.Instance,
		"partition": m.Partition, "offset": m.Offset, "type": m.Type,
	}
	return true, l.Audit(ctx, tx, "unknown", m.Topic, m.Key, m.Source, m.ID, details)
}

// Settle removes the claim of this process, in one transaction with what follows from it. found
// is false if it was settled already, and seen says that the message was passed meanwhile. It tries
// until ctx ends: the database may be unavailable for a moment, and a claim that stays is a
// question to a person.
func (l *Ledger[TTx]) Settle(
	ctx context.Context, id Identity, then func(tx inboxdriver.Tx, found, seen bool) error,
) error {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := l.Rerun(ctx, func() error {
			return l.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
				found, seen := false, false
				err := tx.Send(ctx, inboxdriver.Statement{
					SQL: l.SQL.EndClaim, Args: []any{l.Consumer, id.Source, id.Mark.String(), l.Instance},
					Each: func(row inboxdriver.Row) error {
						found = true
						return row.Scan(&seen)
					},
				})
				if err != nil {
					return false, failure.OfDatabase(ctx, err)
				}
				err = then(tx, found, seen)
				return err == nil, err
			})
		})
		if err == nil || !failure.IsUnavailable(err) || transact.Pause(ctx, wait) != nil {
			return err
		}
	}
}

// Audit writes one entry of inbox_audit. source and id are texts, or nil for an entry that is about
// a key.
func (l *Ledger[TTx]) Audit(
	ctx context.Context, tx inboxdriver.Tx, action, topic string, key []byte, source, id any, details map[string]any,
) error {
	text, err := json.Marshal(details)
	if err != nil {
		return fmt.Errorf("write the audit: %w", err)
	}
	err = tx.Send(ctx, inboxdriver.Statement{
		SQL: l.SQL.Audit, Args: []any{l.Consumer, action, topic, tables.OrNull(key), source, id, string(text)},
	})
	if err != nil {
		return fmt.Errorf("write the audit: %w", failure.OfDatabase(ctx, err))
	}
	return nil
}
