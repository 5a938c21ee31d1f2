package bench

import (
	"context"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/internal/harness/child"
	"github.com/outbox-relay/relay/internal/harness/usage"
)

// settleTime is how long a relay that has published its last row is left alone before it counts as
// idle.
const settleTime = 3 * time.Second

// idle watches a relay that has nothing to publish. The queries are counted by the server, in
// transactions, for the whole database: sessions of others that work meanwhile count too, those of
// the bench do not.
func (b *bench) idle(ctx context.Context, c *child.Child, p *place) (*Idle, error) {
	b.progress("an idle relay: %.0f s", (settleTime + b.cfg.Idle).Seconds())
	if err := pause(ctx, settleTime); err != nil {
		return nil, err
	}
	before, err := b.idleSample(ctx, c, p)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, b.cfg.Idle); err != nil {
		return nil, err
	}
	after, err := b.idleSample(ctx, c, p)
	if err != nil {
		return nil, err
	}
	took := after.at.Sub(before.at).Seconds()
	const own = 1 // the bench's own sample between the two
	result := &Idle{
		QueriesPerSecond: round(float64(max(0, after.transactions-before.transactions-own))/took, 1),
		RSSMB:            megabytes(after.usage, after.usage.Resident),
	}
	if after.usage.Known {
		result.CPUPercent = number(100*(after.usage.Processor-before.usage.Processor).Seconds()/took, 2)
	}
	return result, nil
}

type idleSample struct {
	at           time.Time
	transactions int64
	usage        usage.Usage
}

func (b *bench) idleSample(ctx context.Context, c *child.Child, p *place) (s idleSample, err error) {
	if err := lives(c); err != nil {
		return s, err
	}
	if s.usage, err = usage.Of(c.ID()); err != nil {
		return s, err
	}
	err = p.conn.QueryRow(ctx, "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()").
		Scan(&s.transactions)
	if err != nil {
		return s, fmt.Errorf("read pg_stat_database: %w", err)
	}
	s.at = time.Now()
	return s, nil
}
