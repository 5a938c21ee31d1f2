package inbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Order, without a lock on a key that is well: a mark decides a message once. The process that
// writes it second waits for the end of the first one's transaction. So even a process that was
// thought dead, and goes on with the same key, cannot invert effects: the other one has seen the
// earlier message committed before it begins the later one. In a batch the insert of a mark may
// wait for a process that parks that message; so a batch looks for parked keys in a statement after
// the marks, with a later snapshot.
//
// A parked key has a row in inbox_parked_keys, and three locks on it keep its queue whole:
//
//   - FOR KEY SHARE: held by a process that adds a message.
//   - FOR NO KEY UPDATE: held by a process that takes messages out (a retry). There is one at a
//     time, and messages that arrive do not wait for it.
//   - FOR UPDATE: taken by a process that finds the queue empty. It waits for messages that are
//     being added, looks at the queue once more in a later statement, and removes the row. A
//     message that waits for that finds no row then, and is handled as usual.

// Cause is why a message is parked.
type Cause string

// The causes, as they are in inbox_parked.cause.
const (
	// CausePermanent is a handler that said Permanent.
	CausePermanent Cause = "permanent"
	// CauseAttempts is a message that failed as often as it may.
	CauseAttempts Cause = "attempts"
	// CauseCrash is a message whose handler was started several times and never ended.
	CauseCrash Cause = "crash"
	// CauseIdentity is a message without an id to recognise it by.
	CauseIdentity Cause = "identity"
	// CauseSize is a batch of records that takes more memory than a consumer may use once it is
	// decompressed. It was not read: the message has the place of the batch, and no payload.
	CauseSize Cause = "size"
	// CauseBehind is a message behind a parked one of its key.
	CauseBehind Cause = "behind"
)

// mostError bounds the bytes of an error text that is kept.
const mostError = 4096

// Park parks the message with its mark, in its own transaction: it is done, and all later messages
// of its key are parked behind it, in order. The result is Parked, or Duplicate if another process
// handled or parked the message first, or Audited if its effect was begun by AtMostOnce and is not
// known to be done.
func (i *Inbox[TTx]) Park(ctx context.Context, m Message, cause Cause, attempts int, why error) (Result, error) {
	if err := m.check(); err != nil {
		return Failed, err
	}
	id := m.identity()
	result := Failed
	err := i.ledger.Rerun(ctx, func() error {
		return i.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (keep bool, err error) {
			result, err = i.park(ctx, tx, m, id, cause, attempts, why)
			return err == nil, err
		})
	})
	if err != nil {
		return Failed, fmt.Errorf("park message %s of %s: %w", m.ID, m.Source, err)
	}
	i.ledger.Forget(id)
	if result == Parked {
		i.tellParked(ctx, m, cause, why)
	}
	return result, nil
}

func (i *Inbox[TTx]) tellParked(ctx context.Context, m Message, cause Cause, why error) {
	i.cfg.Logger.WarnContext(ctx, "message parked", "consumer", i.cfg.Consumer, "source", m.Source, "msg_id", m.ID,
		"topic", m.Topic, "partition", m.Partition, "offset", m.Offset, "cause", string(cause), "error", why)
}

func (i *Inbox[TTx]) park(
	ctx context.Context, tx inboxdriver.Tx, m Message, id ledger.Identity, cause Cause, attempts int, why error,
) (Result, error) {
	var marked int64
	err := tx.Send(ctx, inboxdriver.Statement{
		SQL: i.ledger.SQL.Mark, Args: []any{i.cfg.Consumer, id.Source, id.Mark.String()}, Affected: &marked,
	})
	if err != nil {
		return Failed, fmt.Errorf("mark: %w", failure.OfStatement(ctx, err))
	}
	if marked == 0 {
		result, err := resultOf(i.ledger.MarkedBefore(ctx, tx, m.subject(id)))
		return result, errors.Join(err, i.ledger.DropStarted(ctx, tx, id))
	}
	return Parked, i.parkMarked(ctx, tx, m, id, cause, attempts, why)
}

// parkMarked parks a message whose mark is written.
func (i *Inbox[TTx]) parkMarked(
	ctx context.Context, tx inboxdriver.Tx, m Message, id ledger.Identity, cause Cause, attempts int, why error,
) error {
	keyID, err := i.parkedKey(ctx, tx, m)
	if err != nil {
		return err
	}
	if err := tx.Send(ctx, i.parkStatement(keyID, m, cause, attempts, why)); err != nil {
		return fmt.Errorf("write the parked message: %w", failure.OfStatement(ctx, err))
	}
	// Processes that are gone may have written it; a retry begins to count from one.
	return i.ledger.DropStarted(ctx, tx, id)
}

// parkedKey returns the row of the message's key, which it makes if there is none.
func (i *Inbox[TTx]) parkedKey(ctx context.Context, tx inboxdriver.Tx, m Message) (int64, error) {
	args := []any{i.cfg.Consumer, m.Topic, tables.OrNull(m.Key)}
	for {
		for _, text := range []string{i.ledger.SQL.AddKey, i.ledger.SQL.FindKey} {
			var id int64
			found := false
			err := tx.Send(ctx, inboxdriver.Statement{SQL: text, Args: args, Each: func(row inboxdriver.Row) error {
				found = true
				return row.Scan(&id)
			}})
			if err != nil {
				return 0, fmt.Errorf("take the key: %w", failure.OfStatement(ctx, err))
			}
			if found {
				return id, nil
			}
		}
		// Between the two the key was released: its row is gone, and the next one is ours.
	}
}

// parkBehind parks a message whose mark is written and whose key is parked.
func (i *Inbox[TTx]) parkBehind(
	ctx context.Context, tx inboxdriver.Tx, keyID int64, m Message, id ledger.Identity,
) error {
	if err := tx.Send(ctx, i.parkStatement(keyID, m, CauseBehind, 0, nil)); err != nil {
		return fmt.Errorf("park behind its key: %w", failure.OfStatement(ctx, err))
	}
	return i.ledger.ClearStarted(ctx, tx, id)
}

func (i *Inbox[TTx]) parkStatement(keyID int64, m Message, cause Cause, attempts int, why error) inboxdriver.Statement {
	names, values := make([][]byte, len(m.Headers)), make([][]byte, len(m.Headers))
	for n, h := range m.Headers {
		names[n], values[n] = []byte(h.Name), h.Value
	}
	var when any
	// A sender may have written any time. One that Postgres cannot hold would come out as another
	// one.
	if year := m.Time.UTC().Year(); !m.Time.IsZero() && 0 < year && year < 10000 {
		when = m.Time.UTC().Truncate(time.Microsecond)
	}
	return inboxdriver.Statement{SQL: i.ledger.SQL.Park, Args: []any{
		keyID, m.Source, m.ID, m.Type, int64(m.Partition), m.Offset, when,
		tables.ByteaArray(names), tables.ByteaArray(values), tables.OrNull(m.Payload), string(cause), errorText(why),
		int64(attempts),
	}}
}

// errorText is what is kept of an error: text that Postgres can store.
func errorText(err error) any {
	if err == nil {
		return nil
	}
	text := err.Error()
	if panicked, ok := errors.AsType[*PanicError](err); ok {
		text += "\n" + string(panicked.Stack)
	}
	return tables.Storable(text, mostError)
}
