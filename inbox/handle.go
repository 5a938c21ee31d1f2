package inbox

import (
	"context"
	"fmt"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/tables"
	"github.com/outbox-relay/relay/inbox/internal/transact"
)

// Handle runs handler once for the message, in one transaction with the mark that it was handled.
// The message is done if the error is nil, and Result says how; otherwise none of it is in the
// database, and it is to be handled again.
//
// If another transaction handles the same message right now, Handle waits for it and sees its
// outcome. If the handler says Permanent, or an earlier message of the key is parked, the message
// is parked. Serialization failures and deadlocks run the whole transaction again, so a handler
// changes nothing but the database. A handler that returns after its context has ended has failed,
// also with nil: with ErrTimeout after Config.HandlerTimeout, with the error of ctx after the end
// of ctx. A COMMIT whose answer was lost is an error that IsUnavailable: handled again, the message
// is a Duplicate if it was committed.
func (i *Inbox[TTx]) Handle(
	ctx context.Context, m Message, handler func(ctx context.Context, tx TTx) error,
) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	id := m.identity()
	ctx = WithMessage(ctx, m)
	var result Result
	err := i.ledger.Rerun(ctx, func() (err error) {
		result, err = i.handleOnce(ctx, m, id, handler)
		return err
	})
	if IsPermanent(err) {
		return i.Park(ctx, m, CausePermanent, 1, err)
	}
	if err != nil {
		i.ledger.Ended(ctx, id)
		return Failed, fmt.Errorf("handle message %s of %s: %w", m.ID, m.Source, err)
	}
	i.ledger.Forget(id)
	return result, nil
}

func (i *Inbox[TTx]) handleOnce(
	ctx context.Context, m Message, id ledger.Identity, handler func(context.Context, TTx) error,
) (Result, error) {
	result := Failed
	var fresh bool
	var keyID *int64
	var in int64
	err := i.ledger.DoHandling(ctx, &in, func(tx inboxdriver.Tx, native TTx) (bool, error) {
		switch {
		case !fresh:
			result = Duplicate
			return i.ledger.WasStarted(id), i.ledger.ClearStarted(ctx, tx, id)
		case keyID != nil:
			result = Parked
			return true, i.parkBehind(ctx, tx, *keyID, m, id)
		}
		// Nothing of ours comes after the handler, so that what fails before is never its failure.
		if err := i.ledger.ClearStarted(ctx, tx, id); err != nil {
			return false, err
		}
		if err := i.ledger.Call(ctx, tx, func(ctx context.Context) error { return handler(ctx, native) }); err != nil {
			return false, err
		}
		result = Processed
		return true, nil
	}, i.acceptStatement(m, id, i.ledger.HandlerBounds(), &fresh, &keyID, &in))
	return result, err
}

// acceptStatement writes the mark. It tells whether it is the first one, the row of the key if that
// is parked, and the incarnation that the transaction is in. Bounds that are not set are left
// alone.
func (i *Inbox[TTx]) acceptStatement(
	m Message, id ledger.Identity, limits transact.Bounds, fresh *bool, keyID **int64, in *int64,
) inboxdriver.Statement {
	return inboxdriver.Statement{
		SQL: i.ledger.SQL.Accept,
		Args: []any{i.cfg.Consumer, id.Source, id.Mark.String(), m.Topic, tables.OrNull(m.Key),
			limits.Idle, limits.Statement},
		Each: func(row inboxdriver.Row) error { return row.Scan(fresh, keyID, new(string), new(string), in) },
	}
}

// Accept marks the message in a transaction of the caller, and says what follows from it:
//
//   - Accepted: write the effect in the same transaction, and commit.
//   - Parked: an earlier message of its key is parked, and now this one behind it. Write no effect,
//     and commit: the parked message is in this transaction, and rolled back it is nowhere.
//   - Duplicate: it was handled or parked before. Write no effect; nothing needs a commit.
//   - Failed, with an error: roll back.
//
// So a caller commits if the error is nil, and writes the effect if the result is Accepted.
// Result.NeedsCommit tells Parked from Duplicate for one who would rather roll back. Acknowledge
// the message after the commit. A transaction that handles the same message is waited for.
func (i *Inbox[TTx]) Accept(ctx context.Context, tx TTx, m Message) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	result, err := i.accept(ctx, i.ledger.Driver.Wrap(tx), m)
	if err != nil {
		return Failed, fmt.Errorf("accept message %s of %s: %w", m.ID, m.Source, err)
	}
	return result, nil
}

func (i *Inbox[TTx]) accept(ctx context.Context, tx inboxdriver.Tx, m Message) (Result, error) {
	id := m.identity()
	var fresh bool
	var keyID *int64
	var in int64
	err := failure.OfStatement(ctx, tx.Send(ctx, i.acceptStatement(m, id, transact.Bounds{}, &fresh, &keyID, &in)))
	if err == nil {
		err = i.ledger.StillIn(ctx, in)
	}
	switch {
	case err != nil:
		return Failed, err
	case !fresh:
		return Duplicate, i.ledger.ClearStarted(ctx, tx, id)
	case keyID != nil:
		return Parked, i.parkBehind(ctx, tx, *keyID, m, id)
	}
	return Accepted, i.ledger.ClearStarted(ctx, tx, id)
}
