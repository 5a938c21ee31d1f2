package inboxloop

import (
	"context"
	"fmt"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// Seen tells which messages were handled, or parked, before: those need not be handled again. It
// only reads, so that false means nothing: Handle decides. A replay skips what was handled with it,
// many messages at a time.
func (l *Loop[TTx]) Seen(ctx context.Context, messages []inbox.Message) ([]bool, error) {
	seen := make([]bool, len(messages))
	err := l.lookUp(ctx, messages, l.ledger.SQL.Seen, func(row inboxdriver.Row, indexes []int) error {
		var place int64
		err := row.Scan(&place)
		if err == nil {
			seen[indexes[place-1]] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for marks: %w", err)
	}
	return seen, nil
}

// Started returns how often each message was recorded by Start before and did not end, and records
// nothing. A consumer asks before it calls Start, to handle those that may be why a process ended
// alone: Start for one that only waits for its turn would count a start that was none.
func (l *Loop[TTx]) Started(ctx context.Context, messages []inbox.Message) ([]int, error) {
	starts := make([]int, len(messages))
	err := l.lookUp(ctx, messages, l.ledger.SQL.Started, func(row inboxdriver.Row, indexes []int) error {
		var place, n int64
		err := row.Scan(&place, &n)
		if err == nil {
			starts[indexes[place-1]] = int(n)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up what was started before: %w", err)
	}
	return starts, nil
}

// lookUp runs a statement that takes the sources and marks of messages. It answers with their
// places among those, from 1; indexes are what the places are in messages. A message that can have
// no mark is left out: nothing was noted of it.
func (l *Loop[TTx]) lookUp(
	ctx context.Context, messages []inbox.Message, statement string, each func(row inboxdriver.Row, indexes []int) error,
) error {
	ids, indexes := make([]ledger.Identity, 0, len(messages)), make([]int, 0, len(messages))
	for n, m := range messages {
		if check(m) == nil {
			ids, indexes = append(ids, identify(m)), append(indexes, n)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	sources, keys := ledger.Arrays(ids)
	return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: statement, Args: []any{l.ledger.Consumer, sources, keys},
			Each: func(row inboxdriver.Row) error { return each(row, indexes) },
		}))
	})
}
