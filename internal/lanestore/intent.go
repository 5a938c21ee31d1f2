package lanestore

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/position"
)

// Intent is a batch that is about to be committed.
type Intent struct {
	Seq   int64
	After position.Position
	// Again replaces what the first intent of the same number said, because the batch was begun
	// again.
	Again bool
}

// Intent records that a batch is about to be committed, and with work what it parks and releases;
// nil for nothing. It is durable before the commit is asked for, and fails if another process has
// raised the epoch. The batch before it has been committed, so its position becomes the confirmed
// one.
func (l *Row) Intent(ctx context.Context, i Intent, work func(context.Context, pgx.Tx) error) error {
	const update = `
UPDATE relay_lanes SET seq = $4::bigint, snapshot_from = $5::text::pg_snapshot, snapshot_to = $6::text::pg_snapshot, last_id = $7,
       updated_at = clock_timestamp(), batch_owner = owner, batch_epoch = owner_epoch, confirmed_seq = $4::bigint - 1,
       confirmed_from = CASE WHEN $8 THEN confirmed_from ELSE snapshot_from END,
       confirmed_to = CASE WHEN $8 THEN confirmed_to ELSE snapshot_to END,
       confirmed_last_id = CASE WHEN $8 THEN confirmed_last_id ELSE last_id END
WHERE ctid = $1::text::tid AND lane = $2 AND owner_epoch = $3 AND seq = $4::bigint - CASE WHEN $8 THEN 0 ELSE 1 END RETURNING ctid::text`
	l.intended, l.confirmed = i.Seq, i.Seq-1
	from, to, lastID := i.After.Columns()
	args := []any{i.Seq, from, to, lastID, i.Again}
	if !i.Again && work == nil {
		return l.write(ctx, "intent", update, args...)
	}
	return l.inTransaction(ctx, l.o.WorkTimeout, func(ctx context.Context, tx pgx.Tx) error {
		if err := l.writeBy(ctx, tx, "intent", update, args...); err != nil {
			return err
		}
		if i.Again {
			if err := l.o.Parked.Undo(ctx, tx, i.Seq-1); err != nil {
				return err
			}
		}
		if work == nil {
			return nil
		}
		return work(ctx, tx)
	})
}

// Settle finishes what committed batches have changed about parked rows.
func (l *Row) Settle(ctx context.Context, seq int64) error {
	return l.inTransaction(ctx, l.o.WorkTimeout, func(ctx context.Context, tx pgx.Tx) error { return l.o.Parked.Settle(ctx, tx, seq) })
}

// Recovered gives the lane's row the checkpoint that Kafka has, and ends the record.
func (l *Row) Recovered(ctx context.Context, id int64, c checkpoint.Record) error {
	// Longer than a statement of a batch may take: it reads the whole table.
	ctx, cancel := context.WithTimeout(ctx, LongTimeout)
	defer cancel()
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		if err := l.o.Parked.GoBack(ctx, tx, c.Position); err != nil {
			return err
		}
		if err := l.completeIn(ctx, tx, c, c.Identity); err != nil {
			return err
		}
		reason := "recovered by " + c.Recovery.Who + "; the next relay goes on"
		if err := l.writeBy(ctx, tx, "state", sayStatement, "waiting", reason); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "UPDATE relay_recoveries SET finished_at = clock_timestamp() WHERE id = $1", id)
		return err
	})
}

// inTransaction runs work in one transaction on the lane's session, for so long at most. A failure
// leaves the row where it was.
func (l *Row) inTransaction(ctx context.Context, limit time.Duration, work func(context.Context, pgx.Tx) error) error {
	ctx, cancel := limitedTo(ctx, limit)
	defer cancel()
	location := l.location
	err := pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error { return work(ctx, tx) })
	if err != nil {
		l.location = location
	}
	return err
}
