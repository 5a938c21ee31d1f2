package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// AtMostOnce runs an effect that no database rolls back, such as an e-mail, at most once: the claim on it is committed before it
// begins, and settled when it is done.
//
// A message that is seen again while its claim is not settled is not run again, whether the first run goes on, failed or ended with
// its process: what is known goes to inbox_audit, and the result is Audited, for a person to look at. An error of the handler means
// just that, and so does nil after the end of its context, unless it says that nothing happened for certain. NotDone and
// Unavailable do: the claim is released, and the message is to be handled again. Permanent says the same, and parks the message.
//
// If another process has seen the message again before its handler says that nothing happened, then that process has passed
// it, and nobody would bring it back. It is parked then, and inbox_audit tells of it.
func (i *Inbox[TTx]) AtMostOnce(ctx context.Context, m Message, handler func(ctx context.Context) error) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	id := m.identity()
	ctx = WithMessage(ctx, m)
	result := Failed
	err := i.again(ctx, func() (err error) {
		result, err = i.claim(ctx, m, id)
		return err
	})
	if err != nil {
		return Failed, fmt.Errorf("claim message %s of %s: %w", m.ID, m.Source, err)
	}
	i.forget(id)
	if result != Processed {
		return result, nil
	}
	err = i.call(ctx, nil, handler)
	nothing := saysNothingHappened(err)
	if is(err, doubted) {
		err = i.blame(ctx, err)
	}
	settling, cancel := i.settling(ctx)
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
	failing := i.noteFailure(settling, id, err)
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, errors.Join(err, failing))
}

// saysNothingHappened reports whether a handler said so. What the inbox itself finds out about the
// database says nothing about the effect.
func saysNothingHappened(err error) bool {
	return IsPermanent(err) || IsNotDone(err) || is(err, unavailable)
}

// settling returns a context for what follows an effect. Its outcome is known to this process only,
// so it is written down even if ctx has ended, and also after a crash of the database: a claim is
// on disk before its effect begins.
func (i *Inbox[TTx]) settling(ctx context.Context) (context.Context, context.CancelFunc) {
	free := context.WithValue(context.WithoutCancel(ctx), boundKey{i}, nil)
	return context.WithTimeout(free, i.cfg.HandlerTimeout)
}

// noteFailure leaves the claim, with the error of its effect, of which nobody knows whether it happened.
func (i *Inbox[TTx]) noteFailure(ctx context.Context, id identity, why error) error {
	return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
		return true, ofDatabase(ctx, tx.Send(ctx, durably, Statement{
			SQL: i.sql.failClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String(), errorText(why)},
		}))
	})
}

// claim writes mark and claim. Processed is a claim that is ours.
func (i *Inbox[TTx]) claim(ctx context.Context, m Message, id identity) (result Result, err error) {
	var fresh bool
	var keyID *int64
	var in int64
	err = i.transactIn(ctx, &in, func(tx Tx, _ TTx) (_ bool, err error) {
		switch {
		case !fresh:
			result, err = i.markedBefore(ctx, tx, m, id)
			return true, errors.Join(err, i.clearStarted(ctx, tx, id))
		case keyID != nil:
			result = Parked
			return true, i.parkBehind(ctx, tx, *keyID, m, id)
		}
		result = Processed
		var claimed int64
		err = tx.Send(ctx, durably, Statement{
			SQL: i.sql.claim, Args: []any{i.cfg.Consumer, id.source, id.key.String(), i.cfg.Instance}, Affected: &claimed,
		})
		if err == nil && claimed == 0 { // the claim has outlived its mark
			if result, err = i.seenAgain(ctx, tx, m, id); err == nil && result != Audited {
				err = errReleased
			}
			return true, errors.Join(err, i.clearStarted(ctx, tx, id))
		}
		return true, errors.Join(ofStatement(ctx, err), i.clearStarted(ctx, tx, id))
	}, i.acceptStatement(m, id, i.ownBounds(), &fresh, &keyID, &in))
	return result, err
}

// errReleased is a message whose mark and claim were there, and went because nothing had happened.
var errReleased = errors.New("inbox: the message was released meanwhile")

// markedBefore is seenAgain for a message whose mark was found in a statement before. A claim that is gone since was settled, or
// released together with its mark: then nobody else brings the message back, and it is tried once more.
func (i *Inbox[TTx]) markedBefore(ctx context.Context, tx Tx, m Message, id identity) (Result, error) {
	result, err := i.seenAgain(ctx, tx, m, id)
	if err != nil || result != Duplicate {
		return result, err
	}
	marked := false
	err = tx.Send(ctx, Statement{
		SQL: i.sql.hasMark, Args: []any{i.cfg.Consumer, id.source, id.key.String()},
		Each: func(row Row) error { return row.Scan(&marked) },
	})
	if err == nil && !marked {
		return Failed, errReleased
	}
	return Duplicate, ofStatement(ctx, err)
}

// seenAgain tells a message that is done from one of which nobody knows. It notes in the claim that the message is passed, under
// the lock of its row, so that whoever has begun the effect finds that out when it settles the claim; see undo.
func (i *Inbox[TTx]) seenAgain(ctx context.Context, tx Tx, m Message, id identity) (Result, error) {
	found := false
	var instance string
	var since time.Time
	var failure *string
	err := tx.Send(ctx, Statement{
		SQL: i.sql.seeClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String()},
		Each: func(row Row) error {
			found = true
			return row.Scan(&instance, &since, &failure)
		},
	})
	if err != nil || !found {
		return Duplicate, ofStatement(ctx, err)
	}
	details := map[string]any{
		"claimed_by": instance, "claimed_at": since.UTC(), "error": failure, "seen_by": i.cfg.Instance,
		"partition": m.Partition, "offset": m.Offset, "type": m.Type,
	}
	return Audited, i.audit(ctx, tx, "unknown", m.Topic, m.Key, m.Source, m.ID, details)
}

// settle takes the claim of this process away, in one transaction with what follows from it. found is false if somebody else has
// settled it, and seen says that the message was passed meanwhile. It tries until ctx ends: the database may be away for a
// moment, and a claim that stays is a question to a person.
func (i *Inbox[TTx]) settle(ctx context.Context, id identity, then func(tx Tx, found, seen bool) error) error {
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := i.again(ctx, func() error {
			return i.transact(ctx, func(tx Tx, _ TTx) (bool, error) {
				found, seen := false, false
				err := tx.Send(ctx, Statement{
					SQL: i.sql.endClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String(), i.cfg.Instance},
					Each: func(row Row) error {
						found = true
						return row.Scan(&seen)
					},
				})
				if err != nil {
					return false, ofDatabase(ctx, err)
				}
				err = then(tx, found, seen)
				return err == nil, err
			})
		})
		if err == nil || !IsUnavailable(err) || pause(ctx, wait) != nil {
			return err
		}
	}
}

// settleDone ends the claim of an effect that has happened.
func (i *Inbox[TTx]) settleDone(ctx context.Context, m Message, id identity) error {
	return i.settle(ctx, id, func(tx Tx, _, seen bool) error {
		if !seen {
			return nil
		}
		return i.auditOutcome(ctx, tx, m, map[string]any{"verdict": "done"})
	})
}

// undo releases a message of which it is certain that nothing happened: claim and mark go. If another process has passed it
// meanwhile, or the handler said Permanent, it is parked with its mark instead. If a person has settled the claim
// meanwhile, the mark is as that person wants it.
func (i *Inbox[TTx]) undo(ctx context.Context, m Message, id identity, why error) (Result, error) {
	var result Result
	cause := CausePermanent
	err := i.settle(ctx, id, func(tx Tx, found, seen bool) error {
		result = Failed
		switch {
		case !found:
			return nil
		case seen && !IsPermanent(why):
			cause = CauseAttempts
		case !IsPermanent(why):
			return ofDatabase(ctx, tx.Send(ctx, Statement{SQL: i.sql.dropMark, Args: []any{i.cfg.Consumer, id.source, id.key.String()}}))
		}
		result = Parked
		if err := i.parkMarked(ctx, tx, m, id, cause, 1, why); err != nil || !seen {
			return err
		}
		return i.auditOutcome(ctx, tx, m, map[string]any{"verdict": "not-done", "error": errorText(why), "outcome": "parked"})
	})
	switch {
	case err != nil:
		return Failed, fmt.Errorf("nothing was done for message %s of %s, but its claim could not be released: %w", m.ID, m.Source,
			errors.Join(err, why))
	case result == Parked:
		i.tellParked(ctx, m, cause, why)
		return Parked, nil
	}
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, why)
}

// auditOutcome notes what became of an effect that is in the audit as unknown.
func (i *Inbox[TTx]) auditOutcome(ctx context.Context, tx Tx, m Message, details map[string]any) error {
	details["claimed_by"], details["partition"], details["offset"], details["type"] = i.cfg.Instance, m.Partition, m.Offset, m.Type
	return i.audit(ctx, tx, "settle", m.Topic, m.Key, m.Source, m.ID, details)
}

// RedriveOnce is Redrive for effects of AtMostOnce. The first parked message of the key is claimed, its effect runs, and then claim and
// message go. A message that is found claimed ended with its process, or failed with an unknown outcome, when it was tried last: it
// is not run again, and leaves the queue for inbox_audit, with the result Audited. It takes two connections of the pool.
func (i *Inbox[TTx]) RedriveOnce(ctx context.Context, key ParkedKey, handler func(ctx context.Context, m Message) error) (Redriven, error) {
	done := Redriven{Left: true}
	err := i.transactHandling(ctx, nil, func(tx Tx, _ TTx) (bool, error) {
		// The transaction holds the key all the while, so that nobody else finds the claim of a run that goes on.
		taken, err := i.takeKey(ctx, tx, key)
		if err != nil || !taken {
			done.Busy = !taken
			return false, err
		}
		head, found, err := i.head(ctx, tx, key)
		if err != nil || !found {
			return false, err
		}
		if head.cause == CauseSize {
			return false, Permanent(errUnread)
		}
		done.Message, done.Row = head.Message, head.row
		if done.Result, err = i.redriveClaimed(ctx, head.Message, handler); err != nil {
			return false, err
		}
		id := head.identity()
		err = tx.Send(ctx, durably, Statement{SQL: i.sql.dropParked, Args: []any{head.row}},
			Statement{SQL: i.sql.settleClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String()}})
		return true, ofDatabase(ctx, err)
	}, readCommitted, i.handlerBounds().set()) // the claim is not older than the transaction
	if err == nil && !done.Busy && done.Message.ID == "" {
		done.Left, err = i.release(ctx, key)
	}
	if err != nil {
		return done, fmt.Errorf("retry the first parked message of key %d: %w", key.ID, err)
	}
	return done, nil
}

// redriveClaimed runs the effect of a parked message, unless it is claimed already.
func (i *Inbox[TTx]) redriveClaimed(ctx context.Context, m Message, handler func(context.Context, Message) error) (Result, error) {
	id := m.identity()
	result := Failed
	limited, cancel := context.WithTimeout(ctx, i.patience())
	defer cancel()
	err := i.again(limited, func() error {
		return i.transact(limited, func(tx Tx, _ TTx) (_ bool, err error) {
			ctx := limited
			if result, err = i.seenAgain(ctx, tx, m, id); err != nil || result == Audited {
				return true, err
			}
			return true, ofStatement(ctx, tx.Send(ctx, durably, Statement{
				SQL: i.sql.claim, Args: []any{i.cfg.Consumer, id.source, id.key.String(), i.cfg.Instance},
			}))
		})
	})
	if limited.Err() != nil && ctx.Err() == nil {
		return Failed, fmt.Errorf("no second connection in %v; give the pool at least two: %w", i.patience(), err)
	}
	if err != nil || result == Audited {
		return result, err
	}
	err = i.call(WithMessage(ctx, m), nil, func(ctx context.Context) error { return handler(ctx, m) })
	if err == nil {
		return Processed, nil
	}
	settling, cancel := i.settling(ctx)
	defer cancel()
	if saysNothingHappened(err) {
		return Failed, errors.Join(err, i.settle(settling, id, func(Tx, bool, bool) error { return nil }))
	}
	return Failed, errors.Join(err, i.noteFailure(settling, id, err))
}
