package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Selection says which marks are meant. Consumer is required; of the rest all must hold.
type Selection struct {
	// Consumer whose marks they are.
	Consumer string
	// Source of the messages; empty for any.
	Source string
	// MsgID is the id of one message, as its sender gave it; empty for any.
	MsgID string
	// From and To bound the time at which the messages were handled: From is in, To is not. Zero is
	// no bound.
	From, To time.Time
	// Claimed also means marks of effects that were claimed and are not known to be done. Without it
	// they are kept, because a replay would run such an effect a second time.
	Claimed bool
}

// BySource is what is forgotten of one source, or would be.
type BySource struct {
	// Source of the messages.
	Source string `json:"source"`
	// Marks counts those that go. First and Last are when the first and the last of them were
	// handled; nil where none goes.
	Marks int64      `json:"marks"`
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
	// Parked counts marks of parked messages, which stay: the message waits in inbox_parked, and a
	// copy would pass it.
	Parked int64 `json:"parked"`
	// Claimed counts marks of effects that are claimed and not known to be done: they stay, unless
	// the selection means them too.
	Claimed int64 `json:"claimed"`
}

// selected is the condition on the marks m that are meant, with the parameters of Selection.args.
const selected = `m.consumer = $1 AND ($2::text IS NULL OR m.source = $2) AND ($3::text IS NULL OR m.msg_id = inbox_key($3))
   AND ($4::timestamptz IS NULL OR m.handled_at >= $4) AND ($5::timestamptz IS NULL OR m.handled_at < $5)`

// held are the marks of the consumer that are parked, and those that are claimed.
const held = `
parked AS MATERIALIZED (
    SELECT DISTINCT p.source, inbox_key(p.msg_id) AS msg_id FROM inbox_parked p JOIN inbox_parked_keys k ON k.id = p.key_id
     WHERE k.consumer = $1
), claimed AS MATERIALIZED (
    SELECT source, msg_id FROM inbox_claims WHERE consumer = $1
)`

const planQuery = `WITH ` + held + `
SELECT m.source, count(*) FILTER (WHERE goes), min(handled_at) FILTER (WHERE goes), max(handled_at) FILTER (WHERE goes),
       count(*) FILTER (WHERE p), count(*) FILTER (WHERE c)
  FROM (SELECT m.source, m.handled_at, p.msg_id IS NOT NULL AS p, c.msg_id IS NOT NULL AS c,
               p.msg_id IS NULL AND (c.msg_id IS NULL OR $6::boolean) AS goes
          FROM inbox m LEFT JOIN parked p ON p.source = m.source AND p.msg_id = m.msg_id
               LEFT JOIN claimed c ON c.source = m.source AND c.msg_id = m.msg_id
         WHERE ` + selected + `) AS m
 GROUP BY m.source ORDER BY m.source`

func (s Selection) args() []any {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return []any{s.Consumer, orNull(s.Source), orNull(s.MsgID), at(s.From), at(s.To), s.Claimed}
}

// PlanForget returns what Forget would remove, and changes nothing. It reads all marks of the
// consumer that are in the range. Errors are explained.
func (in Inbox) PlanForget(ctx context.Context, s Selection) ([]BySource, error) {
	rows, err := in.conn.Query(ctx, planQuery, s.args()...)
	if err != nil {
		return nil, fmt.Errorf("count marks: %w", ExplainInbox(err))
	}
	plan := []BySource{}
	var b BySource
	_, err = pgx.ForEachRow(rows, []any{&b.Source, &b.Marks, &b.First, &b.Last, &b.Parked, &b.Claimed}, func() error {
		b.First, b.Last = inUTC(b.First), inUTC(b.Last)
		plan = append(plan, b)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count marks: %w", ExplainInbox(err))
	}
	return plan, nil
}

// Forgotten is what Forget removed.
type Forgotten struct {
	// Marks counts the removed marks, Claims the removed claims.
	Marks  int64 `json:"marks"`
	Claims int64 `json:"claims"`
	// Audit is the number of the entry in inbox_audit.
	Audit int64 `json:"audit"`
}

// batch is how many marks one transaction looks at.
const batch = 10_000

// stepQuery returns the mark up to which a batch of one source goes, in the order of the ids: that
// of the primary key and of the partitions. No row: what is left is less than a batch.
const stepQuery = `
SELECT msg_id::text FROM inbox WHERE consumer = $1 AND source = $2 AND msg_id > $3::text::uuid ORDER BY msg_id OFFSET $4 LIMIT 1`

// batchQuery removes the marks behind $7 up to $8 that are meant and not held. A message that is
// parked at this moment has put its mark and itself there in one transaction: the statement sees
// both or neither.
const batchQuery = `WITH ` + held + `, gone AS (
    DELETE FROM inbox m
     WHERE ` + selected + ` AND m.msg_id > $7::text::uuid AND m.msg_id <= $8::text::uuid
       AND NOT EXISTS (SELECT FROM parked p WHERE p.source = m.source AND p.msg_id = m.msg_id)
       AND ($6::boolean OR NOT EXISTS (SELECT FROM claimed c WHERE c.source = m.source AND c.msg_id = m.msg_id))
    RETURNING m.source, m.msg_id
), unclaimed AS (
    DELETE FROM inbox_claims c USING gone g
     WHERE c.consumer = $1 AND c.source = g.source AND c.msg_id = g.msg_id AND $6::boolean RETURNING 1
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM unclaimed)`

// Forget removes the marks that are meant and not held, of the sources that the plan names, for the
// given reason, which must not be empty: the messages are handled again when they come again. The
// audit entry is written first, with what the plan says; then come the batches, each its own
// transaction. So an error leaves the entry and a part of the marks, and calling it again does the
// rest. Errors are explained.
func (in Inbox) Forget(ctx context.Context, s Selection, plan []BySource, reason string) (Forgotten, error) {
	var done Forgotten
	args := s.args()
	err := in.conn.QueryRow(ctx, `
INSERT INTO inbox_audit (consumer, action, source, msg_id, reason, details)
VALUES ($1, 'forget', $2, $3, $7,
        jsonb_build_object('from', $4::timestamptz, 'to', $5::timestamptz, 'claimed', $6::boolean, 'plan', $8::jsonb))
RETURNING id`, append(args, reason, plan)...).Scan(&done.Audit)
	if err != nil {
		return done, fmt.Errorf("write inbox_audit: %w", ExplainInbox(err))
	}
	for _, b := range plan {
		selection := s
		selection.Source = b.Source
		for after := lowest; after != highest; {
			err := pgx.BeginTxFunc(ctx, in.conn, pgx.TxOptions{}, func(tx pgx.Tx) (err error) {
				after, err = done.batch(ctx, tx, selection, after)
				return err
			})
			if err != nil {
				return done, fmt.Errorf("remove marks: %w", ExplainInbox(err))
			}
		}
	}
	return done, nil
}

// The least and the greatest mark that there can be.
const (
	lowest  = "00000000-0000-0000-0000-000000000000"
	highest = "ffffffff-ffff-ffff-ffff-ffffffffffff"
)

// batch removes marks of one source behind a place, and returns how far it went. Postgres must not
// read whole partitions for it, whatever the statistics say.
func (f *Forgotten) batch(ctx context.Context, tx pgx.Tx, s Selection, after string) (upTo string, err error) {
	if _, err := tx.Exec(ctx, `SET LOCAL enable_seqscan = off`); err != nil {
		return after, err
	}
	err = tx.QueryRow(ctx, stepQuery, s.Consumer, s.Source, after, batch-1).Scan(&upTo)
	switch {
	case errors.Is(err, pgx.ErrNoRows) || s.MsgID != "":
		upTo = highest
	case err != nil:
		return after, err
	}
	var marks, claims int64
	if err := tx.QueryRow(ctx, batchQuery, append(s.args(), after, upTo)...).Scan(&marks, &claims); err != nil {
		return after, err
	}
	f.Marks, f.Claims = f.Marks+marks, f.Claims+claims
	return upTo, nil
}
