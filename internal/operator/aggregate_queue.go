package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/parking"
)

// AggregateQueue is one parked aggregate in full.
type AggregateQueue struct {
	AggregateName
	// TotalRows counts the parked rows, also beyond the limit; 0 if the aggregate is not parked.
	TotalRows int64 `json:"total_rows"`
	// Leaving counts rows of a batch that is being committed at this moment: they are parked no
	// more.
	Leaving int64 `json:"leaving"`
	// Rows are the first rows, in the order in which they are to be published.
	Rows []Row `json:"rows"`
	// Requests are the newest requests about the aggregate, the newest first.
	Requests []Request `json:"requests"`
}

// Row is a parked row.
type Row struct {
	// ID and MsgID are those of the row in the outbox.
	ID    int64     `json:"id"`
	MsgID uuid.UUID `json:"msg_id"`
	// Type of the event, and its Topic; nil if the relay's route decides.
	Type  string  `json:"type"`
	Topic *string `json:"topic"`
	// PayloadBytes is the size of the payload; nil for a row without one.
	PayloadBytes *int64 `json:"payload_bytes"`
	// CreatedAt is when the row was written to the outbox, ParkedAt when it was parked.
	CreatedAt time.Time `json:"created_at"`
	ParkedAt  time.Time `json:"parked_at"`
	// Cause is Refused, Topic or Behind; Error says it in words, nil for Behind; Attempts is how
	// often the row was refused.
	Cause    string  `json:"cause"`
	Error    *string `json:"error"`
	Attempts int     `json:"attempts"`
}

// Request is an entry of the audit table.
type Request struct {
	// Request is its number.
	Request int64 `json:"request"`
	// Action is retry or discard, or skip if the policy of that name left a row out.
	Action string `json:"action"`
	// MsgID is the one event meant; nil for the whole queue.
	MsgID *uuid.UUID `json:"msg_id"`
	// RequestedBy is the login that asked, Reason what it gave as the reason, RequestedAt when.
	RequestedBy string    `json:"requested_by"`
	Reason      string    `json:"reason"`
	RequestedAt time.Time `json:"requested_at"`
	// DoneAt is when it had been carried out; nil before. Outcome says what came of it; Events were
	// published or discarded.
	DoneAt  *time.Time `json:"done_at"`
	Outcome *string    `json:"outcome"`
	Events  int64      `json:"events"`
}

// ofAggregate finds the rows of an aggregate through the index.
var ofAggregate = parking.QueueKey + ` = ` + parking.QueueKeyOf("$2", "$3") + ` AND aggregate_type = $2 AND aggregate_id = $3`

var lanesQuery = `
SELECT lane FROM outbox_parked WHERE ($1::text IS NULL OR lane = $1) AND ` + ofAggregate + `
 UNION
SELECT lane FROM outbox_parked_audit WHERE ($1::text IS NULL OR lane = $1) AND aggregate_type = $2 AND aggregate_id = $3
 ORDER BY lane`

var rowsQuery = `
SELECT id, msg_id::text, type, topic, octet_length(payload)::bigint, created_at, parked_at, cause, error, attempts
  FROM outbox_parked WHERE lane = $1 AND ` + ofAggregate + ` AND released_seq IS NULL
 ORDER BY seq, id LIMIT $4`

var countQuery = `
SELECT count(*) FILTER (WHERE released_seq IS NULL), count(released_seq)
  FROM outbox_parked WHERE lane = $1 AND ` + ofAggregate

const requestsQuery = `
SELECT request, action, msg_id::text, requested_by, reason, requested_at, done_at, outcome, events
  FROM outbox_parked_audit WHERE lane = $1 AND aggregate_type = $2 AND aggregate_id = $3
 ORDER BY request DESC LIMIT $4`

// Show reads up to limit rows and up to limit requests of the one aggregate that the filter names,
// in one snapshot; 0 is no bound. The lane may be empty if only one has the aggregate. Errors are
// explained, and wrap ErrNotThere if there is neither a parked row nor a request.
func (o Outbox) Show(ctx context.Context, f OutboxFilter, limit int) (AggregateQueue, error) {
	q := AggregateQueue{Rows: []Row{}, Requests: []Request{}}
	err := readOnly(ctx, o.conn, func(tx pgx.Tx) error {
		if err := q.find(ctx, tx, f); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, countQuery, q.Lane, q.AggregateType, q.AggregateID).Scan(&q.TotalRows, &q.Leaving); err != nil {
			return fmt.Errorf("count rows in outbox_parked: %w", explain(err))
		}
		if err := q.readRows(ctx, tx, orNull(limit)); err != nil {
			return fmt.Errorf("read outbox_parked: %w", explain(err))
		}
		if err := q.readRequests(ctx, tx, orNull(limit)); err != nil {
			return fmt.Errorf("read outbox_parked_audit: %w", explain(err))
		}
		return nil
	})
	return q, err
}

// find fills in the name of the one aggregate that the filter names.
func (q *AggregateQueue) find(ctx context.Context, tx pgx.Tx, f OutboxFilter) error {
	q.AggregateName = AggregateName{f.Lane, f.AggregateType, f.AggregateID}
	if err := checkLane(ctx, tx, q.Lane); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, lanesQuery, orNull(q.Lane), q.AggregateType, q.AggregateID)
	if err != nil {
		return fmt.Errorf("read outbox_parked: %w", explain(err))
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil:
		return fmt.Errorf("read outbox_parked: %w", explain(err))
	case len(lanes) == 0:
		return notThere("relay parked list", "nothing is parked of %s/%s, and nothing was asked for", q.AggregateType, q.AggregateID)
	case len(lanes) > 1:
		return hint.New(fmt.Sprintf("%d lanes have %s/%s", len(lanes), q.AggregateType, q.AggregateID),
			"--lane with one of "+strings.Join(lanes, ", "))
	}
	q.Lane = lanes[0]
	return nil
}

func (q *AggregateQueue) readRows(ctx context.Context, tx pgx.Tx, most *int) error {
	rows, err := tx.Query(ctx, rowsQuery, q.Lane, q.AggregateType, q.AggregateID, most)
	if err != nil {
		return err
	}
	var r Row
	var event string
	fields := []any{&r.ID, &event, &r.Type, &r.Topic, &r.PayloadBytes, &r.CreatedAt, &r.ParkedAt, &r.Cause, &r.Error, &r.Attempts}
	_, err = pgx.ForEachRow(rows, fields, func() (err error) {
		r.MsgID, err = uuid.Parse(event)
		r.CreatedAt, r.ParkedAt = r.CreatedAt.UTC(), r.ParkedAt.UTC()
		q.Rows = append(q.Rows, r)
		return err
	})
	return err
}

func (q *AggregateQueue) readRequests(ctx context.Context, tx pgx.Tx, most *int) error {
	rows, err := tx.Query(ctx, requestsQuery, q.Lane, q.AggregateType, q.AggregateID, most)
	if err != nil {
		return err
	}
	q.Requests, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r Request, err error) {
		var event *string
		err = row.Scan(&r.Request, &r.Action, &event, &r.RequestedBy, &r.Reason, &r.RequestedAt, &r.DoneAt, &r.Outcome, &r.Events)
		if err != nil {
			return r, err
		}
		r.RequestedAt = r.RequestedAt.UTC()
		if r.DoneAt != nil {
			done := r.DoneAt.UTC()
			r.DoneAt = &done
		}
		if event != nil {
			id, err := uuid.Parse(*event)
			if err != nil {
				return r, err
			}
			r.MsgID = &id
		}
		return r, nil
	})
	return err
}

// Payload reads the payload of the first parked row of the aggregate that the filter names, or of
// its row with the MsgID; nil is a row without one. Errors are as those of Show.
func (o Outbox) Payload(ctx context.Context, f OutboxFilter) (payload []byte, err error) {
	var q AggregateQueue
	err = readOnly(ctx, o.conn, func(tx pgx.Tx) error {
		if err := q.find(ctx, tx, f); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `
SELECT payload FROM outbox_parked
 WHERE lane = $1 AND `+ofAggregate+` AND released_seq IS NULL AND ($4::uuid IS NULL OR msg_id = $4)
 ORDER BY seq, id LIMIT 1`, q.Lane, q.AggregateType, q.AggregateID, orNull(f.MsgID)).Scan(&payload)
		if errors.Is(err, pgx.ErrNoRows) {
			return notThere("relay parked list", "no such row of %s/%s is parked", q.AggregateType, q.AggregateID)
		}
		if err != nil {
			return fmt.Errorf("read outbox_parked: %w", explain(err))
		}
		return nil
	})
	return payload, err
}
