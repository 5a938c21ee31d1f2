package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// Durably makes the commit wait for the disk, whatever the session is set to: what is recorded here
// must survive a crash.
var Durably = inboxdriver.Statement{SQL: "SET LOCAL synchronous_commit = on"}

// WasStarted reports whether the message has a row in inbox_started that this process wrote.
func (l *Ledger[TTx]) WasStarted(ids ...Identity) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.started) == 0 {
		return false
	}
	for _, id := range ids {
		if l.started[id] {
			return true
		}
	}
	return false
}

// ClearStarted removes the rows in the transaction that decides the messages.
func (l *Ledger[TTx]) ClearStarted(ctx context.Context, tx inboxdriver.Tx, ids ...Identity) error {
	if !l.WasStarted(ids...) {
		return nil
	}
	return l.DropStarted(ctx, tx, ids...)
}

// DropStarted is clearStarted for messages whether or not this process remembers that it started
// them.
func (l *Ledger[TTx]) DropStarted(ctx context.Context, tx inboxdriver.Tx, ids ...Identity) error {
	sources, keys := Arrays(ids)
	err := tx.Send(ctx, inboxdriver.Statement{SQL: l.SQL.DropManyStarted, Args: []any{l.Consumer, sources, keys}})
	if err != nil {
		return fmt.Errorf("take the record of the start away: %w", failure.OfStatement(ctx, err))
	}
	return nil
}

// Remember notes that this process wrote the row of a message.
func (l *Ledger[TTx]) Remember(id Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.started[id] = true
}

// Forget is called once that transaction is committed.
func (l *Ledger[TTx]) Forget(ids ...Identity) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range ids {
		delete(l.started, id)
	}
}

// endedTimeout bounds the time that is spent on removing a record after a failure.
const endedTimeout = 5 * time.Second

// Ended removes the record of messages whose handler failed in good order: it did not end the
// process. If the database is unavailable the record stays, and the next start counts one too many.
func (l *Ledger[TTx]) Ended(ctx context.Context, ids ...Identity) {
	if l.WasStarted(ids...) && l.TakeBack(ctx, ids...) {
		l.Forget(ids...)
	}
}

// TakeBack is ended for messages whether or not this process remembers that it started them.
func (l *Ledger[TTx]) TakeBack(ctx context.Context, ids ...Identity) bool {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endedTimeout)
	defer cancel()
	sources, keys := Arrays(ids)
	err := l.Do(limited, func(inboxdriver.Tx, TTx) (bool, error) { return true, nil },
		inboxdriver.Statement{SQL: l.SQL.DropManyStarted, Args: []any{l.Consumer, sources, keys}})
	if err != nil {
		l.Logger.WarnContext(ctx, "the record of a start stays", "consumer", l.Consumer, "error", err)
	}
	return err == nil
}

// Arrays are the sources and keys as two arrays.
func Arrays(ids []Identity) (sources string, keys []uuid.UUID) {
	s, k := make([]string, len(ids)), make([]uuid.UUID, len(ids))
	for n, id := range ids {
		s[n], k[n] = id.Source, id.Mark
	}
	return tables.TextArray(s), k
}
