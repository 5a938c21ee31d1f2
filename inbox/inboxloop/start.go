package inboxloop

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// Start records, before their handlers run, that they are about to, and returns how often each
// message was recorded before and not ended: more than 0 is a message during which a process ended,
// or one of its neighbours. Messages that are handled already are not recorded. The record goes
// with the effect, in its transaction, and even if a handler fails in good order; so it costs a
// commit, for which Start takes many messages at once. Use it after a crash only.
func (l *Loop[TTx]) Start(ctx context.Context, messages []inbox.Message) ([]int, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	ids, place := make([]ledger.Identity, len(messages)), map[ledger.Identity]int{}
	var distinct []ledger.Identity
	for n, m := range messages {
		if err := check(m); err != nil {
			return nil, err
		}
		ids[n] = identify(m)
		if _, known := place[ids[n]]; !known {
			place[ids[n]] = 0
			distinct = append(distinct, ids[n])
		}
	}
	sources, keys := ledger.Arrays(distinct)
	err := l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
				SQL: l.ledger.SQL.Start, Args: []any{l.ledger.Consumer, sources, keys},
				Each: func(row inboxdriver.Row) error { return readStart(row, place) },
			})
			return err == nil, failure.OfStatement(ctx, err)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("record that handlers start: %w", err)
	}
	before := make([]int, len(messages))
	for n, id := range ids {
		if place[id] > 0 {
			before[n] = place[id] - 1
			l.ledger.Remember(id)
		}
	}
	return before, nil
}

func readStart(row inboxdriver.Row, starts map[ledger.Identity]int) error {
	var source, key string
	var n int64
	if err := row.Scan(&source, &key, &n); err != nil {
		return err
	}
	parsed, err := uuid.Parse(key)
	if err != nil {
		return err
	}
	starts[ledger.Identity{Source: source, Mark: parsed}] = int(n)
	return nil
}
