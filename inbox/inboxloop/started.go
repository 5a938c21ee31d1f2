package inboxloop

import (
	"context"
	"fmt"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// Started returns how often each message was recorded by Start before and did not end, and records
// nothing. A consumer asks before it calls Start, to handle those that may be why a process ended
// alone: Start for one that only waits for its turn would count a start that was none.
func (l *Loop[TTx]) Started(ctx context.Context, messages []inbox.Message) ([]int, error) {
	starts := make([]int, len(messages))
	ids, places := make([]ledger.Identity, 0, len(messages)), make([]int, 0, len(messages))
	for n, m := range messages {
		if check(m) == nil { // one that cannot have a mark was not started
			ids, places = append(ids, identify(m)), append(places, n)
		}
	}
	if len(ids) == 0 {
		return starts, nil
	}
	sources, keys := ledger.Arrays(ids)
	err := l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: l.ledger.SQL.Started, Args: []any{l.ledger.Consumer, sources, keys},
			Each: func(row inboxdriver.Row) error {
				var place, n int64
				err := row.Scan(&place, &n)
				if err == nil {
					starts[places[place-1]] = int(n)
				}
				return err
			},
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("look up what was started before: %w", err)
	}
	return starts, nil
}
