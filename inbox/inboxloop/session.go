package inboxloop

import (
	"context"
	"fmt"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
)

// Open notes that this process works on a partition. It reports whether another one did so before
// and never closed it: that one crashed, or was cut off, and a message that it was handling may be
// why.
func (l *Loop[TTx]) Open(ctx context.Context, topic string, partition int32) (crashed bool, err error) {
	err = l.ledger.Rerun(ctx, func() error {
		crashed = false
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, ledger.Durably, inboxdriver.Statement{
				SQL: l.ledger.SQL.OpenSession, Args: []any{l.ledger.Consumer, topic, int64(partition), l.ledger.Session},
				Each: func(row inboxdriver.Row) error {
					var instance string
					err := row.Scan(&instance)
					crashed = instance != l.ledger.Session
					return err
				},
			})
			return err == nil, failure.OfDatabase(ctx, err)
		})
	})
	if err != nil {
		return false, fmt.Errorf("open the session of %s/%d: %w", topic, partition, err)
	}
	return crashed, nil
}

// Close notes that this process has ended its work on a partition in good order. It does nothing if
// another process has opened it meanwhile.
func (l *Loop[TTx]) Close(ctx context.Context, topic string, partition int32) error {
	err := l.ledger.Rerun(ctx, func() error {
		return l.ledger.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, inboxdriver.Statement{
				SQL: l.ledger.SQL.CloseSession, Args: []any{l.ledger.Consumer, topic, int64(partition), l.ledger.Session},
			})
			return err == nil, failure.OfDatabase(ctx, err)
		})
	})
	if err != nil {
		return fmt.Errorf("close the session of %s/%d: %w", topic, partition, err)
	}
	return nil
}
