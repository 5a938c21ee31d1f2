package parking

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Queue reads outbox_parked, on its own connection.
type Queue struct {
	*outboxread.Reader
	lane, table string
}

const queueStatement = "relay_parked"

// queueQuery reads the queue of one aggregate.
func queueQuery(columns string) string {
	return `SELECT ` + columns + `, place FROM outbox_parked
WHERE lane = $1::text AND ` + QueueKey + ` = ` + QueueKeyOf("$2", "$3") + `
  AND aggregate_type = $2::text AND aggregate_id = $3::text AND released_seq IS NULL
ORDER BY seq, id LIMIT $4::bigint`
}

// OpenQueue connects to Postgres. The options are those of the lane's reader; of their table only
// large payloads are read.
func OpenQueue(ctx context.Context, o outboxread.Options, server pg.Server) (*Queue, error) {
	conn, err := o.Database.Connect(ctx, pg.Options{
		Application: "relay " + o.Lane + " parked", Settings: map[string]string{"enable_seqscan": "off"},
	})
	if err != nil {
		return nil, err
	}
	q := &Queue{outboxread.NewReader(conn, outboxread.Options{
		Lane: o.Lane, Rows: o.Rows, Bytes: o.Bytes, Records: o.Records,
	}), o.Lane, o.Table}
	if err = q.CheckServer(ctx, server); err == nil {
		if _, err = q.Conn().PgConn().Prepare(ctx, queueStatement, queueQuery(outboxread.Columns(o.Bytes)), nil); err != nil {
			err = fmt.Errorf("prepare the read of parked rows: %w", err)
		}
	}
	if err != nil {
		q.Close()
		return nil, err
	}
	return q, nil
}

// requests returns what people have asked for and is not done yet.
func (q *Queue) requests(ctx context.Context) ([]task, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	rows, err := q.Conn().Query(ctx, `SELECT request, action, aggregate_type, aggregate_id, msg_id::text, requested_at
FROM outbox_parked_audit WHERE lane = $1 AND done_seq IS NULL AND action <> 'skip' ORDER BY request LIMIT 1000`, q.lane)
	if err != nil {
		return nil, fmt.Errorf("read the requests about parked rows: %w", err)
	}
	tasks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (task, error) {
		var t task
		err := row.Scan(&t.request, &t.action, &t.aggregateType, &t.aggregateID, &t.msgID, &t.requestedAt)
		t.key = string(outboxread.AggregateKey(nil, []byte(t.aggregateType), []byte(t.aggregateID)))
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the requests about parked rows: %w", err)
	}
	return tasks, nil
}

// readQueue adds the parked rows of an aggregate to a page, room of them at most, and reports
// whether they are all.
func (q *Queue) readQueue(ctx context.Context, t task, p *outboxread.Page, room int) (all bool, err error) {
	rows, cut, err := q.ReadInto(ctx, queueStatement, p,
		[]byte(q.lane), []byte(t.aggregateType), []byte(t.aggregateID), outboxread.IntParam(int64(room)+1))
	return rows <= room && !cut, err
}

// Work is what is to be done about parked rows now: what people have asked for, and what nothing
// holds any more.
type Work []task

// Work looks for it.
func (q *Queue) Work(ctx context.Context, k *Planner) (Work, error) {
	tasks, err := q.requests(ctx)
	if err != nil {
		return nil, err
	}
	k.requested = len(tasks) > 0
	return append(tasks, k.free()...), nil
}

// gatherTime bounds the reading of many short queues for one batch.
const gatherTime = 50 * time.Millisecond

// Gather reads the parked rows of as much of the work as a page takes, most rows at last, and
// returns what plans that page for a batch after which the position is at. What needs no row to be
// sent is in the plan, too. The page is to be put back.
func (q *Queue) Gather(
	ctx context.Context, k *Planner, work Work, at position.Position, most int,
) (*outboxread.Page, func() *Plan, error) {
	p, pl := q.Page(), &Plan{After: at}
	p.After = at
	var segments []segment
	taken := make(map[string]bool)
	began := time.Now()
	for _, t := range work {
		// What is discarded counts as well: the intent of the batch has to be written in time.
		room := most - len(p.IDs) - len(pl.Releases)
		if taken[t.key] || room <= 0 || time.Since(began) > gatherTime {
			continue
		}
		taken[t.key] = true
		if _, parked := k.keys[t.key]; !parked && k.partial {
			k.add(t.key, aggregate{}) // if it is parked is seen in its queue
		}
		if _, parked := k.keys[t.key]; !parked {
			pl.answer(t.request, "nothing was parked")
			continue
		}
		if t.action == "discard" {
			if err := q.discard(ctx, t, pl, k.keys[t.key], room); err != nil {
				q.Put(p)
				return nil, nil, err
			}
			continue
		}
		from := len(p.IDs)
		all, err := q.readQueue(ctx, t, p, min(room, q.Limit()))
		if err != nil { // the page has been put back
			return nil, nil, fmt.Errorf("read parked rows: %w", err)
		}
		segments = append(segments, segment{task: t, from: from, to: len(p.IDs), end: all})
		for i := from; i < len(p.IDs); i++ {
			delete(k.poison, p.Key(i)) // it is tried again
		}
	}
	return p, func() *Plan { return k.planParked(p, segments, *pl) }, nil
}

// Fetch reads the payload of a large row of a page from where the page was read: from the outbox,
// or from outbox_parked.
func (q *Queue) Fetch(ctx context.Context, p *outboxread.Page, i int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	query, args := `SELECT payload FROM `+pg.QuoteTable(q.table)+` WHERE id = $1`, []any{p.IDs[i]}
	if len(p.Places) > 0 {
		query, args = `SELECT payload FROM outbox_parked WHERE lane = $1 AND place = $2`, []any{q.lane, p.Places[i]}
	}
	var payload []byte
	err := q.Conn().QueryRow(ctx, query, args...).Scan(&payload)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && len(payload) != p.Unread(i) {
		err = ErrRowsGone
	}
	if err != nil {
		return fmt.Errorf("read the payload of row id %d: %w", p.IDs[i], err)
	}
	p.Fetch(i, payload)
	return nil
}

// task is an aggregate whose parked rows are to be published or discarded.
type task struct {
	key                        string
	aggregateType, aggregateID string
	request                    int64 // 0 if there was no request: its topic is back
	action                     string
	msgID                      *string
	requestedAt                time.Time
}

// discard plans the removal of the parked rows of an aggregate, or of one of them.
func (q *Queue) discard(ctx context.Context, t task, pl *Plan, state aggregate, most int) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	// A row that came after the request is not meant: the person had not seen it.
	rows, err := q.Conn().Query(ctx, `SELECT place, parked_at <= $4 AND ($5::uuid IS NULL OR msg_id = $5::uuid) FROM outbox_parked
WHERE lane = $1 AND `+QueueKey+` = `+QueueKeyOf("$2", "$3")+` AND aggregate_type = $2 AND aggregate_id = $3 AND released_seq IS NULL
ORDER BY seq, id LIMIT $6`,
		q.lane, t.aggregateType, t.aggregateID, t.requestedAt, t.msgID, discardLimit(t, most))
	if err != nil {
		return fmt.Errorf("read parked rows: %w", err)
	}
	defer rows.Close()
	seen, first, gone, more := 0, false, 0, false
	for rows.Next() {
		if more = t.msgID == nil && seen == most; more {
			continue
		}
		var place int64
		var meant bool
		if err := rows.Scan(&place, &meant); err != nil {
			return fmt.Errorf("read parked rows: %w", err)
		}
		if meant {
			pl.Releases = append(pl.Releases, release{place, t.request})
			first = first || seen == 0
			gone++
		}
		seen++
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read parked rows: %w", err)
	}
	switch {
	case more && gone == most:
		return nil // the rest of the queue comes with the next batch
	case gone == 0 && seen > 0 && t.msgID != nil:
		pl.done = append(pl.done, outcome{t.request, "nothing was parked"})
		return nil
	case gone == seen && !more: // also where somebody else has removed them all
		pl.freed = append(pl.freed, t.key)
	case first, gone == 0: // those that came after the request are not meant, and do not wait
		pl.park(t.key, aggregate{free: true})
	default:
		pl.park(t.key, state)
	}
	pl.done = append(pl.done, outcome{t.request, "discarded"})
	return nil
}

// discardLimit is how many rows of the queue are looked at, one more than are taken: the one that
// is meant may stand anywhere.
func discardLimit(t task, most int) *int {
	if t.msgID != nil {
		return nil
	}
	most++
	return &most
}
