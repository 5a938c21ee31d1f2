package inboxloop

import (
	"context"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
)

// MostCounted is how many parked keys Parked counts at most.
const MostCounted = 10_000

// Parked returns how many keys of this consumer have parked messages, in all of its processes and
// topics, and for how long the first of those that were counted has; MostCounted of them at most
// are counted.
func (l *Loop[TTx]) Parked(ctx context.Context) (keys int64, oldest time.Duration, err error) {
	var seconds float64
	err = l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
		return false, failure.OfDatabase(ctx, tx.Send(ctx, inboxdriver.Statement{
			SQL: l.ledger.SQL.CountParked, Args: []any{l.ledger.Consumer, int64(MostCounted)},
			Each: func(row inboxdriver.Row) error { return row.Scan(&keys, &seconds) },
		}))
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count the parked keys: %w", err)
	}
	return keys, time.Duration(seconds * float64(time.Second)), nil
}
