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
// just that, and so does nil after the end of its context, unless it says NotDone: then nothing happened for certain, the claim is released, and the message is to be
// handled again. Permanent says the same, and parks the message.
func (i *Of[T]) AtMostOnce(ctx context.Context, m Message, handler func(ctx context.Context) error) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	id := m.identity()
	ctx = withMessage(ctx, m)
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
	if is(err, doubted) {
		err = i.blame(ctx, err)
	}
	// From here on the outcome is known to this process only, so it is written down even where ctx has ended.
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.cfg.HandlerTimeout)
	defer cancel()
	switch {
	case err == nil:
		if err := i.settle(settling, id, false); err != nil {
			return Failed, fmt.Errorf("message %s of %s is done, but its claim could not be settled: %w", m.ID, m.Source, err)
		}
		return Processed, nil
	case IsPermanent(err), IsNotDone(err):
		return i.undo(settling, m, id, err)
	}
	failing := i.noteFailure(settling, id, err)
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, errors.Join(err, failing))
}

// noteFailure leaves the claim, with the error of its effect, of which nobody knows whether it happened.
func (i *Of[T]) noteFailure(ctx context.Context, id identity, why error) error {
	return i.transact(ctx, func(tx Tx, _ T) (bool, error) {
		return true, ofDatabase(ctx, tx.Send(ctx, durably, Statement{
			SQL: i.sql.failClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String(), errorText(why)},
		}))
	})
}

// claim writes mark and claim. Processed is a claim that is ours.
func (i *Of[T]) claim(ctx context.Context, m Message, id identity) (result Result, err error) {
	var fresh bool
	var keyID *int64
	var in int64
	err = i.transactIn(ctx, &in, func(tx Tx, _ T) (_ bool, err error) {
		switch {
		case !fresh:
			result, err = i.seenAgain(ctx, tx, m, id)
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
			result, err = i.seenAgain(ctx, tx, m, id)
			return true, errors.Join(err, i.clearStarted(ctx, tx, id))
		}
		return true, errors.Join(ofStatement(ctx, err), i.clearStarted(ctx, tx, id))
	}, i.acceptStatement(m, id, i.ownBounds(), &fresh, &keyID, &in))
	return result, err
}

// seenAgain tells a message that is done from one of which nobody knows.
func (i *Of[T]) seenAgain(ctx context.Context, tx Tx, m Message, id identity) (Result, error) {
	found := false
	var instance string
	var since time.Time
	var failure *string
	err := tx.Send(ctx, Statement{
		SQL: i.sql.readClaim, Args: []any{i.cfg.Consumer, id.source, id.key.String()},
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

// settle takes the claim away, and the mark where nothing happened. It tries until ctx ends: the database may be away for a moment,
// and a claim that stays is a question to a person.
func (i *Of[T]) settle(ctx context.Context, id identity, undo bool) error {
	args := []any{i.cfg.Consumer, id.source, id.key.String()}
	for wait := 20 * time.Millisecond; ; wait *= 2 {
		err := i.again(ctx, func() error {
			return i.transact(ctx, func(tx Tx, _ T) (bool, error) {
				statements := []Statement{{SQL: i.sql.settleClaim, Args: args}}
				if undo {
					statements = append(statements, Statement{SQL: i.sql.dropMark, Args: args})
				}
				return true, ofDatabase(ctx, tx.Send(ctx, statements...))
			})
		})
		if err == nil || !IsUnavailable(err) || pause(ctx, wait) != nil {
			return err
		}
	}
}

// undo releases a message of which it is certain that nothing happened.
func (i *Of[T]) undo(ctx context.Context, m Message, id identity, why error) (Result, error) {
	if err := i.settle(ctx, id, true); err != nil {
		return Failed, fmt.Errorf("nothing was done for message %s of %s, but its claim could not be released: %w", m.ID, m.Source,
			errors.Join(err, why))
	}
	if IsPermanent(why) {
		return i.Park(ctx, m, CausePermanent, 1, why)
	}
	return Failed, fmt.Errorf("effect of message %s of %s: %w", m.ID, m.Source, why)
}

// RedriveOnce is Redrive for effects of AtMostOnce. The first parked message of the key is claimed, its effect runs, and then claim and
// message go. A message that is found claimed ended with its process, or failed with an unknown outcome, when it was tried last: it
// is not run again, and leaves the queue for inbox_audit, with the result Audited. It takes two connections of the pool.
func (i *Of[T]) RedriveOnce(ctx context.Context, key ParkedKey, handler func(ctx context.Context, m Message) error) (Redriven, error) {
	done := Redriven{Left: true}
	err := i.transactIn(ctx, nil, func(tx Tx, _ T) (bool, error) {
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
		done.Message = head.Message
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
func (i *Of[T]) redriveClaimed(ctx context.Context, m Message, handler func(context.Context, Message) error) (Result, error) {
	id := m.identity()
	result := Failed
	limited, cancel := context.WithTimeout(ctx, i.patience())
	defer cancel()
	err := i.again(limited, func() error {
		return i.transact(limited, func(tx Tx, _ T) (_ bool, err error) {
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
	err = i.call(withMessage(ctx, m), nil, func(ctx context.Context) error { return handler(ctx, m) })
	if err == nil {
		return Processed, nil
	}
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.cfg.HandlerTimeout)
	defer cancel()
	if IsPermanent(err) || IsNotDone(err) {
		return Failed, errors.Join(err, i.settle(settling, id, false))
	}
	return Failed, errors.Join(err, i.noteFailure(settling, id, err))
}
