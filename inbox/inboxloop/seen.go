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
	ids, places := make([]ledger.Identity, 0, len(messages)), make([]int, 0, len(messages))
	for n, m := range messages {
		if check(m) == nil { // one that cannot have a mark was not seen
			ids, places = append(ids, identify(m)), append(places, n)
		}
	}
	if len(ids) == 0 {
		return seen, nil
	}
	sources, keys := ledger.Arrays(ids)
	err := l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: l.ledger.SQL.Seen, Args: []any{l.ledger.Consumer, sources, keys},
			Each: func(row inboxdriver.Row) error {
				var place int64
				err := row.Scan(&place)
				if err == nil {
					seen[places[place-1]] = true
				}
				return err
			},
		}))
	})
	if err != nil {
		return nil, fmt.Errorf("look for marks: %w", err)
	}
	return seen, nil
}
