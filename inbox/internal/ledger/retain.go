package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// OtherClaim is inboxloop.OtherClaim.
type OtherClaim struct {
	Claimant string
	Age      time.Duration
}

// Retain claims how long the marks of the consumer are kept, 0 being forever, for claimants or for
// one without a name. It returns what others claim under the same name.
func (l *Ledger[TTx]) Retain(
	ctx context.Context, retention time.Duration, claimants ...string,
) (others []OtherClaim, err error) {
	var seconds any
	if retention > 0 {
		seconds = retention.Seconds()
	}
	if len(claimants) == 0 {
		claimants = []string{""}
	}
	err = l.Rerun(ctx, func() error {
		others = nil
		return l.Do(ctx, func(tx inboxdriver.Tx, _ TTx) (bool, error) {
			err := tx.Send(ctx, inboxdriver.Statement{
				SQL: l.SQL.Retain, Args: []any{l.Consumer, seconds, tables.TextArray(claimants)},
				Each: func(row inboxdriver.Row) error {
					var other OtherClaim
					var age float64
					err := row.Scan(&other.Claimant, &age)
					other.Age = time.Duration(age * float64(time.Second))
					others = append(others, other)
					return err
				},
			})
			return err == nil, failure.OfDatabase(ctx, err)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("set the retention of marks: %w", err)
	}
	return others, nil
}
