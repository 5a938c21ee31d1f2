package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/hint"
)

// Claim is an effect of AtMostOnce that was begun and is not known to be done.
type Claim struct {
	// Consumer, Source and Mark name it. Mark is the message's id as it is in inbox.msg_id: a UUIDv7
	// itself, anything else hashed.
	Consumer string `json:"consumer"`
	Source   string `json:"source"`
	Mark     string `json:"mark"`
	// MsgID is the id as its sender gave it, where inbox_audit knows it: the message was seen again.
	// Nil otherwise.
	MsgID *string `json:"msg_id"`
	// Instance is the process that began the effect, ClaimedAt when. It may be at work right now.
	Instance   string    `json:"instance"`
	ClaimedAt  time.Time `json:"claimed_at"`
	AgeSeconds float64   `json:"age_seconds"`
	// Error is what the handler returned; nil if it never came back.
	Error *string `json:"error"`
}

const claimsQuery = `
SELECT c.consumer, c.source, c.msg_id::text,
       (SELECT a.msg_id FROM inbox_audit a WHERE a.consumer = c.consumer AND a.action = 'unknown' AND a.source = c.source
           AND inbox_key(a.msg_id) = c.msg_id ORDER BY a.id DESC LIMIT 1),
       c.instance, c.claimed_at, extract(epoch FROM clock_timestamp() - c.claimed_at)::float8, c.error
  FROM inbox_claims c
 WHERE ($1 = '' OR c.consumer = $1) AND ($2 = '' OR c.source = $2) AND c.claimed_at <= clock_timestamp() - make_interval(secs => $3)
 ORDER BY c.claimed_at, c.consumer, c.source, c.msg_id LIMIT nullif($4, 0)`

// Claims lists claims that are not done, the oldest first, up to limit; 0 is no bound. Consumer and
// source may be empty for any; olderThan is how old a claim is at least. Errors are explained.
func (in Inbox) Claims(ctx context.Context, consumer, source string, olderThan time.Duration, limit int) ([]Claim, error) {
	rows, err := in.conn.Query(ctx, claimsQuery, consumer, source, olderThan.Seconds(), limit)
	if err != nil {
		return nil, fmt.Errorf("read inbox_claims: %w", ExplainInbox(err))
	}
	claims, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c Claim, err error) {
		err = row.Scan(&c.Consumer, &c.Source, &c.Mark, &c.MsgID, &c.Instance, &c.ClaimedAt, &c.AgeSeconds, &c.Error)
		c.ClaimedAt = c.ClaimedAt.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read inbox_claims: %w", ExplainInbox(err))
	}
	return append([]Claim{}, claims...), nil
}

// Verdict is what a person has found out about an effect.
type Verdict string

// The verdicts.
const (
	// Done: it happened. The claim goes, the mark stays: a copy of the message is a duplicate.
	Done Verdict = "done"
	// NotDone: it did not happen. Claim and mark go: the message is handled when it comes again.
	NotDone Verdict = "not-done"
)

// Settle ends one claim, named by the id of the message or by its mark, for the given reason, which
// must not be empty. A message that is parked keeps its mark: it is handled by a retry. Errors are
// explained.
func (in Inbox) Settle(ctx context.Context, consumer, source, msgID string, verdict Verdict, reason string) error {
	err := pgx.BeginTxFunc(ctx, in.conn, pgx.TxOptions{}, func(tx pgx.Tx) error {
		var mark string
		err := tx.QueryRow(ctx, `
WITH gone AS (
    DELETE FROM inbox_claims WHERE consumer = $1 AND source = $2
       AND (msg_id = inbox_key($3) OR msg_id::text = lower($3)) RETURNING *
), noted AS (
    INSERT INTO inbox_audit (consumer, action, source, msg_id, reason, details)
    SELECT consumer, 'settle', source, $3, $5,
           jsonb_build_object('verdict', $4::text, 'claimed_by', instance, 'claimed_at', claimed_at, 'error', error) FROM gone
)
SELECT msg_id::text FROM gone`, consumer, source, msgID, string(verdict), reason).Scan(&mark)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return hint.New(fmt.Sprintf("consumer %s has no claim on message %s of %s", consumer, msgID, source),
				"relay inbox claims list; where it shows no id of the message, give --msg-id its mark")
		case err != nil || verdict == Done:
			return err
		}
		_, err = tx.Exec(ctx, `
DELETE FROM inbox m WHERE m.consumer = $1 AND m.source = $2 AND m.msg_id = $3::text::uuid AND NOT EXISTS (
    SELECT FROM inbox_parked p JOIN inbox_parked_keys k ON k.id = p.key_id
     WHERE k.consumer = m.consumer AND p.source = m.source AND inbox_key(p.msg_id) = m.msg_id)`, consumer, source, mark)
		return err
	})
	if err != nil {
		return fmt.Errorf("settle a claim: %w", ExplainInbox(err))
	}
	return nil
}
