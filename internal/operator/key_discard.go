package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Discarded is what was discarded of one key, or would be.
type Discarded struct {
	KeyName
	// Messages counts the messages that are gone.
	Messages int64 `json:"messages"`
	// Left counts those that are still parked; 0 if the key is free again.
	Left int64 `json:"left"`
}

// PlanDiscard returns what Discard would remove, and changes nothing. Errors are explained.
func (in Inbox) PlanDiscard(ctx context.Context, f InboxFilter) ([]Discarded, error) {
	list, err := in.List(ctx, f)
	if err != nil {
		return nil, err
	}
	plan := []Discarded{}
	for _, k := range list.Keys {
		d := Discarded{KeyName: k.KeyName, Messages: k.Messages}
		if f.MsgID != "" {
			queue, err := in.Show(ctx, InboxFilter{KeyID: k.KeyID}, 1)
			if err != nil && !errors.Is(err, ErrNotThere) {
				return nil, err
			}
			d.Left = max(0, queue.TotalMessages-d.Messages)
		}
		plan = append(plan, d)
	}
	return plan, nil
}

// Discard removes for good the messages of each key that the filter chooses, or the one message
// that it names, for the given reason, which must not be empty. Their marks stay, so that another
// copy is not handled either. Each key is its own transaction, and waits up to wait for a handler
// that holds it. It returns what was removed, even if an error ends it. Errors are explained.
func (in Inbox) Discard(ctx context.Context, f InboxFilter, reason string, wait time.Duration) ([]Discarded, error) {
	plan, err := in.PlanDiscard(ctx, f)
	if err != nil {
		return nil, err
	}
	done := []Discarded{}
	for _, d := range plan {
		err := pgx.BeginTxFunc(ctx, in.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
			return d.remove(ctx, tx, f.MsgID, reason, wait)
		})
		if err != nil {
			return done, fmt.Errorf("discard messages of key %d: %w", d.KeyID, ExplainInbox(err))
		}
		if d.Messages > 0 {
			done = append(done, d)
		}
	}
	return done, nil
}

// remove takes the key FOR UPDATE: that waits for processes that add messages to it, or
// handle one of them. The queue is read in statements after it, which see what those have done.
func (d *Discarded) remove(ctx context.Context, tx pgx.Tx, msgID, reason string, wait time.Duration) error {
	milliseconds := fmt.Sprint(max(1, wait.Milliseconds())) // 0 would wait forever
	if _, err := tx.Exec(ctx, `SELECT set_config('lock_timeout', $1, true)`, milliseconds); err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, `SELECT id FROM inbox_parked_keys WHERE id = $1 FOR UPDATE`, d.KeyID)
	if err != nil || tag.RowsAffected() == 0 {
		d.Messages, d.Left = 0, 0 // its queue was handled meanwhile
		return err
	}
	tag, err = tx.Exec(ctx, `
WITH gone AS (
    DELETE FROM inbox_parked WHERE key_id = $1 AND ($2::text IS NULL OR msg_id = $2) RETURNING *
)
INSERT INTO inbox_audit (consumer, action, topic, key, source, msg_id, reason, details)
SELECT k.consumer, 'discard', k.topic, k.key, g.source, g.msg_id, $3, jsonb_build_object('key_id', k.id, 'type', g.type,
       'partition', g.partition, 'offset', g."offset", 'cause', g.cause, 'error', g.error, 'attempts', g.attempts, 'parked_at', g.parked_at)
  FROM gone g JOIN inbox_parked_keys k ON k.id = g.key_id ORDER BY g.id`, d.KeyID, orNull(msgID), reason)
	if err != nil {
		return err
	}
	d.Messages = tag.RowsAffected()
	if _, err := tx.Exec(ctx, `
DELETE FROM inbox_parked_keys k WHERE id = $1 AND NOT EXISTS (SELECT FROM inbox_parked p WHERE p.key_id = k.id)`, d.KeyID); err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT count(*) FROM inbox_parked WHERE key_id = $1`, d.KeyID).Scan(&d.Left)
}
