package inbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// AtMostOnce runs an effect that no database rolls back, such as an e-mail, at most once: the claim
// on it is committed before it begins, and settled when it is done.
//
// A message that is seen again while its claim is not settled is not run again, whether the first
// run goes on, failed or ended with its process: what is known goes to inbox_audit, and the result
// is Audited, for a person to look at. An error of the handler means just that, and so does nil
// after the end of its context, unless it says that nothing happened for certain. NotDone and
// Unavailable do: the claim is released, and the message is to be handled again. Permanent says the
// same, and parks the message.
//
// If another process has seen the message again before its handler says that nothing happened, then
// that process has passed it, and nothing else would bring it back. It is parked then, and
// inbox_audit says so.
func (i *Inbox[TTx]) AtMostOnce(
	ctx context.Context, m Message, handler func(ctx context.Context) error,
) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	id := m.identity()
	ctx = WithMessage(ctx, m)
	result := Failed
	err := i.ledger.Rerun(ctx, func() (err error) {
		result, err = i.claim(ctx, m, id)
		return err
	})
	if err != nil {
		return Failed, fmt.Errorf("claim message %s of %s: %w", m.ID, m.Source, err)
	}
	i.ledger.Forget(id)
	if result != Processed {
		return result, nil
	}
	err = i.ledger.Call(ctx, nil, handler)
	nothing := failure.SaysNothingHappened(err)
	if failure.IsDoubted(err) {
		err = i.ledger.Blame(ctx, err)
	}
	settling, cancel := i.ledger.Settling(ctx)
	defer cancel()
	switch {
	case err == nil:
		if err := i.settleDone(settling, m, id); err != nil {
			return Failed, fmt.Errorf("message %s of %s is done, but its claim could not be settled: %w", m.ID, m.Source, err)
		}
		return Processed, nil
	case nothing:
		return i.undo(settling, m, id, err)
	}
	failing := i.ledger.NoteFailure(settling, id, err)
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, errors.Join(err, failing))
}

// claim writes mark and claim. Processed is a claim that is ours.
func (i *Inbox[TTx]) claim(ctx context.Context, m Message, id ledger.Identity) (result Result, err error) {
	var fresh bool
	var keyID *int64
	var in int64
	err = i.ledger.DoIn(ctx, &in, func(tx inboxdriver.Tx, _ TTx) (_ bool, err error) {
		switch {
		case !fresh:
			result, err = resultOf(i.ledger.MarkedBefore(ctx, tx, m.subject(id)))
			return true, errors.Join(err, i.ledger.ClearStarted(ctx, tx, id))
		case keyID != nil:
			result = Parked
			return true, i.parkBehind(ctx, tx, *keyID, m, id)
		}
		result = Processed
		var claimed int64
		err = tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
			SQL: i.ledger.SQL.Claim, Args: []any{i.cfg.Consumer, id.Source, id.Mark.String(), i.cfg.Instance},
			Affected: &claimed,
		})
		if err == nil && claimed == 0 { // the claim has outlived its mark
			var unknown bool
			result = Audited
			if unknown, err = i.ledger.SeenAgain(ctx, tx, m.subject(id)); err == nil && !unknown {
				err = failure.ErrReleased
			}
			return true, errors.Join(err, i.ledger.ClearStarted(ctx, tx, id))
		}
		return true, errors.Join(failure.OfStatement(ctx, err), i.ledger.ClearStarted(ctx, tx, id))
	}, i.acceptStatement(m, id, i.ledger.OwnBounds(), &fresh, &keyID, &in))
	return result, err
}

// resultOf is the result for a message that was marked before.
func resultOf(unknown bool, err error) (Result, error) {
	switch {
	case err != nil:
		return Failed, err
	case unknown:
		return Audited, nil
	}
	return Duplicate, nil
}

// settleDone ends the claim of an effect that has happened.
func (i *Inbox[TTx]) settleDone(ctx context.Context, m Message, id ledger.Identity) error {
	return i.ledger.Settle(ctx, id, func(tx inboxdriver.Tx, _, seen bool) error {
		if !seen {
			return nil
		}
		return i.auditOutcome(ctx, tx, m, map[string]any{"verdict": "done"})
	})
}

// undo releases a message of which it is certain that nothing happened: claim and mark go. If
// another process has passed it meanwhile, or the handler said Permanent, it is parked with its
// mark instead. If a person has settled the claim meanwhile, the mark is as that person wants it.
func (i *Inbox[TTx]) undo(ctx context.Context, m Message, id ledger.Identity, why error) (Result, error) {
	var result Result
	cause := CausePermanent
	err := i.ledger.Settle(ctx, id, func(tx inboxdriver.Tx, found, seen bool) error {
		result = Failed
		switch {
		case !found:
			return nil
		case seen && !IsPermanent(why):
			cause = CauseAttempts
		case !IsPermanent(why):
			return failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
				SQL: i.ledger.SQL.DropMark, Args: []any{i.cfg.Consumer, id.Source, id.Mark.String()},
			}))
		}
		result = Parked
		if err := i.parkMarked(ctx, tx, m, id, cause, 1, why); err != nil || !seen {
			return err
		}
		return i.auditOutcome(ctx, tx, m, map[string]any{"verdict": "not-done", "error": errorText(why),
			"outcome": "parked"})
	})
	switch {
	case err != nil:
		return Failed, fmt.Errorf("nothing was done for message %s of %s, but its claim could not be released: %w", m.ID,
			m.Source,
			errors.Join(err, why))
	case result == Parked:
		i.tellParked(ctx, m, cause, why)
		return Parked, nil
	}
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, why)
}

// auditOutcome notes what became of an effect that is in the audit as unknown.
func (i *Inbox[TTx]) auditOutcome(ctx context.Context, tx inboxdriver.Tx, m Message, details map[string]any) error {
	details["claimed_by"], details["type"] = i.cfg.Instance, m.Type
	details["partition"], details["offset"] = m.Partition, m.Offset
	return i.ledger.Audit(ctx, tx, "settle", m.Topic, m.Key, m.Source, m.ID, details)
}
