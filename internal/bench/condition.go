package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/bench/load"
)

// condition is a state of the world under which the drain is measured once more in each round, on
// its own place, beside the one without it.
type condition struct {
	name string
	// prepare makes the place what it is to be, once.
	prepare func(context.Context, *bench, *place) error
	// around is run about each drain, if it is set.
	around func(context.Context, *place, func() error) error
	// keep leaves the rows of a round in the table.
	keep bool

	place  *place
	drains []Drain
}

// conditions are those that the configuration asks for.
func conditions(cfg Config) []*condition {
	var all []*condition
	if cfg.Retained > 0 {
		all = append(all, &condition{name: fmt.Sprintf("%s published rows behind it in the table", grouped(cfg.Retained)),
			prepare: retain, keep: true})
	}
	if cfg.OpenTransaction {
		all = append(all, &condition{name: "a transaction open meanwhile", around: withOpenTransaction})
	}
	if cfg.ParkedKeys > 0 {
		all = append(all, &condition{name: grouped(cfg.ParkedKeys) + " aggregates of the backlog parked", prepare: park})
	}
	return all
}

// park has some of the aggregates of the backlog parked, evenly spread: their rows go to
// outbox_parked.
func park(ctx context.Context, b *bench, p *place) error {
	_, err := p.conn.Exec(ctx, `
INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, created_at, seq, cause, error)
SELECT 'outbox', -i, gen_random_uuid(), $1, (i * ($2::int / $3))::text, $4, now(), 0, 'refused', 'parked by the bench'
FROM generate_series(0, $3::int - 1) i`,
		load.AggregateType, load.Aggregates, b.cfg.ParkedKeys, load.EventType)
	if err != nil {
		return fmt.Errorf("park aggregates: %w", err)
	}
	return nil
}

// retain inserts rows and has the relay publish them, so that they are what they seem to be. What
// autovacuum would do in time is done at once.
func retain(ctx context.Context, b *bench, p *place) error {
	began := time.Now()
	d, err := b.drain(ctx, p, b.cfg.Retained, "rows to be retained")
	if err != nil {
		return err
	}
	if _, err := p.conn.Exec(ctx, "VACUUM (ANALYZE) outbox"); err != nil {
		return fmt.Errorf("vacuum the outbox: %w", err)
	}
	b.event("%s rows published and retained in %.0f s: %s rows/s, %s peak memory", grouped(b.cfg.Retained),
		time.Since(began).Seconds(), grouped(int(d.RowsPerSecond)), megabytesText(d.PeakRSSMB))
	return nil
}

// withOpenTransaction holds a transaction that has an id and its own snapshot while work runs.
func withOpenTransaction(ctx context.Context, p *place, work func() error) (err error) {
	conn, err := pgx.Connect(ctx, p.url)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if _, err := conn.Exec(ctx, "SET idle_in_transaction_session_timeout = 0"); err != nil {
		return fmt.Errorf("hold a transaction open: %w", err)
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return fmt.Errorf("hold a transaction open: %w", err)
	}
	if _, err := tx.Exec(ctx, "SELECT pg_current_xact_id()"); err != nil {
		return fmt.Errorf("hold a transaction open: %w", err)
	}
	err = work()
	return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
}

// measure drains once more under the condition.
func (c *condition) measure(ctx context.Context, b *bench) (err error) {
	if c.place == nil {
		if c.place, err = b.site.newPlace(ctx, b.cfg.StartTimeout); err != nil {
			return err
		}
		if c.prepare != nil {
			if err := c.prepare(ctx, b, c.place); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	around := c.around
	if around == nil {
		around = func(_ context.Context, _ *place, work func() error) error { return work() }
	}
	err = around(ctx, c.place, func() error {
		d, err := b.drain(ctx, c.place, b.cfg.Rows, c.name)
		c.drains = append(c.drains, d)
		return err
	})
	if err == nil && !c.keep {
		err = c.place.empty(ctx)
	}
	return err
}
