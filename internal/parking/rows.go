package parking

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// What a batch changes in outbox_parked is written with its intent, under its number, and so is
// undone where the batch never became a commit: parked rows of a higher number than the last
// committed one are removed, and released ones are back.

// Rows is what the tables outbox_parked and outbox_parked_audit hold of a lane.
type Rows struct {
	lane, table string
}

// NewRows is what the tables hold of a lane on an outbox.
func NewRows(lane, outbox string) Rows { return Rows{lane, outbox} }

// Undo takes back what batches after seq have parked, skipped and released.
func (l Rows) Undo(ctx context.Context, tx pgx.Tx, seq int64) error {
	for _, statement := range []string{
		`DELETE FROM outbox_parked WHERE lane = $1 AND seq > $2`,
		`DELETE FROM outbox_parked_audit WHERE lane = $1 AND done_seq > $2 AND action = 'skip'`,
	} {
		if _, err := tx.Exec(ctx, statement, l.lane, seq); err != nil {
			return fmt.Errorf("undo what was parked after batch %d: %w", seq, err)
		}
	}
	return l.undoReleases(ctx, tx, seq)
}

// undoReleases takes back what batches after seq have released, where it is not settled.
func (l Rows) undoReleases(ctx context.Context, tx pgx.Tx, seq int64) error {
	for _, statement := range []string{
		`UPDATE outbox_parked SET released_seq = NULL, request = NULL WHERE lane = $1 AND released_seq > $2`,
		`UPDATE outbox_parked_audit SET done_seq = NULL, outcome = NULL
WHERE lane = $1 AND done_seq > $2 AND done_at IS NULL AND action <> 'skip'`,
	} {
		if _, err := tx.Exec(ctx, statement, l.lane, seq); err != nil {
			return fmt.Errorf("undo what was released after batch %d: %w", seq, err)
		}
	}
	return nil
}

// Write writes what the batch changes. bound is the oid of the table that the rows must be of; 0
// for any.
func (l Rows) Write(ctx context.Context, tx pgx.Tx, bound uint32, seq int64, pl *Plan) error {
	lane, table := l.lane, pg.QuoteTable(l.table)
	if err := all(ctx, tx, "park rows", pl.Parks, false, `
INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, topic, payload, headers, created_at,
                           seq, cause, error, attempts)
SELECT $1, id, msg_id, o.aggregate_type, o.aggregate_id, o.type, o.topic, o.payload, o.headers, o.created_at,
       $2, a.cause, nullif(a.error, ''), (a.cause = 'refused')::int
FROM unnest($3::bigint[], $4::text[]::uuid[], $5::text[], $6::text[]) AS a (id, msg_id, cause, error) JOIN `+table+` AS o USING (id, msg_id)
-- A recovery may have gone back to before the row was parked: it keeps its place. Another row with its id is another row.
ON CONFLICT (lane, id, msg_id) DO UPDATE SET seq = outbox_parked.seq`, lane, seq); err != nil {
		return err
	}
	if err := all(ctx, tx, "record skipped rows", pl.Skips, false, `
INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, requested_by, reason, done_seq, events, outcome)
SELECT $1, 'skip', o.aggregate_type, o.aggregate_id, msg_id, 'relay', 'policy skip', $2, 1, a.cause || ': ' || a.error
FROM unnest($3::bigint[], $4::text[]::uuid[], $5::text[], $6::text[]) AS a (id, msg_id, cause, error)
     JOIN `+table+` AS o USING (id, msg_id)`, lane, seq); err != nil {
		return err
	}
	if err := l.checkBound(ctx, tx, bound, len(pl.Parks)+len(pl.Skips)); err != nil {
		return err
	}
	if err := all(ctx, tx, "keep parked rows", pl.again, true, `
UPDATE outbox_parked AS p SET cause = a.cause, error = a.error, attempts = p.attempts + (a.cause = 'refused')::int
FROM unnest($3::bigint[], $4::text[], $5::text[]) AS a (place, cause, error)
WHERE p.lane = $1 AND p.place = a.place AND p.seq < $2`, lane, seq); err != nil {
		return err
	}
	// By request, and not as a join with all of them, for which stale statistics make Postgres read
	// every parked row.
	released := make(map[int64][]int64)
	for _, r := range pl.Releases {
		released[r.request] = append(released[r.request], r.place)
	}
	for request, places := range released {
		if err := exactly(ctx, tx, "release parked rows", len(places), `
UPDATE outbox_parked SET released_seq = $2, request = nullif($3::bigint, 0)
WHERE lane = $1 AND place = ANY ($4::bigint[]) AND released_seq IS NULL`, lane, seq, request, places); err != nil {
			return err
		}
	}
	for _, done := range pl.done {
		if err := exactly(ctx, tx, "close a request about parked rows", 1, `
UPDATE outbox_parked_audit SET done_seq = $2, outcome = $4 WHERE lane = $1 AND request = $3 AND done_seq IS NULL`,
			lane, seq, done.request, storable(done.text)); err != nil {
			return err
		}
	}
	return nil
}

// all runs a statement on rows that are set aside; it must do so for each of them. The rows are
// those of the outbox, or with placed those that are parked already.
func all(ctx context.Context, tx pgx.Tx, what string, rows []aside, placed bool, statement string, args ...any) error {
	ids, msgIDs := make([]int64, len(rows)), make([]string, len(rows))
	causes, errs := make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		ids[i], msgIDs[i], causes[i], errs[i] = r.ID, r.MsgID, r.cause, storable(r.err)
		if placed {
			ids[i] = r.place
		}
	}
	if args = append(args, ids); !placed {
		args = append(args, msgIDs)
	}
	return exactly(ctx, tx, what, len(rows), statement, append(args, causes, errs)...)
}

// longestText bounds what is recorded of an error, in bytes.
const longestText = 4 << 10

// storable is an error as Postgres takes it: a check may have put anything into it, and an intent
// must not fail for that.
func storable(text string) string {
	text = text[:min(len(text), longestText)]
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "?"), "?")
}

// ErrRowsGone says that rows which a batch is about were changed by somebody else. The lane is
// taken over again and reads them as they are then.
var ErrRowsGone = errors.New("somebody else has deleted or changed rows that were about to be set aside or released")

func exactly(ctx context.Context, tx pgx.Tx, what string, want int, statement string, args ...any) error {
	if want == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, statement, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if tag.RowsAffected() != int64(want) {
		return fmt.Errorf("%s: %d of %d: %w", what, tag.RowsAffected(), want, ErrRowsGone)
	}
	return nil
}

// Settle removes the rows that committed batches have released, and counts them for the requests
// that asked for it.
func (l Rows) Settle(ctx context.Context, tx pgx.Tx, seq int64) error {
	for _, statement := range []string{`
WITH gone AS (DELETE FROM outbox_parked WHERE lane = $1 AND released_seq <= $2 RETURNING request)
UPDATE outbox_parked_audit AS a SET events = a.events + g.events
FROM (SELECT request, count(*) AS events FROM gone WHERE request IS NOT NULL GROUP BY request) AS g WHERE a.request = g.request`,
		`UPDATE outbox_parked_audit SET done_at = clock_timestamp() WHERE lane = $1 AND done_seq <= $2 AND done_at IS NULL`,
	} {
		if _, err := tx.Exec(ctx, statement, l.lane, seq); err != nil {
			return fmt.Errorf("settle parked rows: %w", err)
		}
	}
	return nil
}

// GoBack takes back what contradicts a position that a recovery has chosen.
func (l Rows) GoBack(ctx context.Context, tx pgx.Tx, to position.Position) error {
	// Parked rows on their way out are back: whether they came to Kafka is what the logs do not agree
	// on.
	if err := l.undoReleases(ctx, tx, -1); err != nil {
		return err
	}
	// Rows that will be read again are parked again then, in their order. Another table has other
	// rows under the same ids.
	again, params := to.Published(2)
	if _, err := tx.Exec(ctx, "DELETE FROM outbox_parked p USING (SELECT id, msg_id FROM "+pg.QuoteTable(l.table)+" WHERE NOT "+again+
		") o WHERE p.lane = $1 AND p.id = o.id AND p.msg_id = o.msg_id", append([]any{l.lane}, params...)...); err != nil {
		return fmt.Errorf("take back what is parked: %w", err)
	}
	return nil
}

// checkBound checks, once a transaction has read rows of the table by its name and so has locked
// it, that it was the lane's.
func (l Rows) checkBound(ctx context.Context, tx pgx.Tx, bound uint32, rows int) error {
	if rows == 0 || bound == 0 {
		return nil
	}
	var oid uint32
	if err := tx.QueryRow(ctx, `SELECT coalesce(to_regclass($1)::oid, 0)`, pg.QuoteTable(l.table)).Scan(&oid); err != nil {
		return fmt.Errorf("look up table %s: %w", l.table, err)
	}
	if oid != bound {
		return pg.ErrSwapped
	}
	return nil
}

// QueueKey is what outbox_parked_queue_idx has of an aggregate in place of its columns: an index
// entry has 2,704 bytes at most, and older tables may hold longer texts. Two aggregates may share
// it, so the columns are compared as well.
const QueueKey = `hashtextextended(aggregate_id COLLATE "C", hashtextextended(aggregate_type COLLATE "C", 0))`

// QueueKeyOf is the ParkedKey of an aggregate that two expressions of SQL give.
func QueueKeyOf(aggregateType, aggregateID string) string {
	return `hashtextextended(` + aggregateID + `::text COLLATE "C", hashtextextended(` + aggregateType + `::text COLLATE "C", 0))`
}

// Load reads which aggregates are parked, on the reader's session, once the lane is claimed.
func Load(ctx context.Context, conn *pgx.Conn, lane string, k *Planner, route func(aggregateType string) string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	rows, err := conn.Query(ctx, `
SELECT DISTINCT ON (`+QueueKey+`, aggregate_type, aggregate_id)
       aggregate_type, aggregate_id, cause, coalesce(topic, ''), coalesce(error, '')
FROM outbox_parked WHERE lane = $1 AND released_seq IS NULL ORDER BY `+QueueKey+`, aggregate_type, aggregate_id, seq, id LIMIT $2`,
		lane, k.o.Bytes/KeyBytes+1)
	if err != nil {
		return fmt.Errorf("read what is parked: %w", err)
	}
	defer rows.Close()
	clear(k.keys)
	k.bytes, k.partial = 0, false
	partial := false
	for rows.Next() {
		if k.Full() {
			partial = true
			continue // to the end of the result, which is bounded
		}
		var aggregateType, aggregateID, cause, topic, why string
		if err := rows.Scan(&aggregateType, &aggregateID, &cause, &topic, &why); err != nil {
			return fmt.Errorf("read what is parked: %w", err)
		}
		state := aggregate{free: cause == causeBehind}
		if cause == causeTopic {
			if topic == "" {
				topic = route(aggregateType)
			}
			state.topic = topic
			k.topics.Unavailable.Suspend(topic, why)
		}
		k.add(string(outboxread.AggregateKey(nil, []byte(aggregateType), []byte(aggregateID))), state)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read what is parked: %w", err)
	}
	k.partial = partial
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM outbox_parked_audit WHERE lane = $1 AND done_seq IS NULL)`, lane).Scan(&k.requested)
	if err != nil {
		return fmt.Errorf("read the requests about parked rows: %w", err)
	}
	return nil
}
