package operator

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/parking"
)

// The causes of a parked row, beside Behind.
const (
	// Refused: the row can never be sent as it is.
	Refused = "refused"
	// Topic: the topic of the row is unavailable; the row goes out by itself once it is back.
	Topic = "topic"
)

// Outbox is the side of the relay: aggregates whose rows could not be published.
type Outbox struct{ conn *pgx.Conn }

// NewOutbox works on the connection.
func NewOutbox(conn *pgx.Conn) Outbox { return Outbox{conn} }

// OutboxFilter chooses parked aggregates. The zero value chooses all of them; several fields must
// all hold.
type OutboxFilter struct {
	// Lane is the name of a lane; empty for any.
	Lane string
	// AggregateType and AggregateID name aggregates; empty for any.
	AggregateType, AggregateID string

	Filter
}

// Empty reports whether the filter chooses everything, up to its limit.
func (f OutboxFilter) Empty() bool {
	f.Limit = 0
	return f == OutboxFilter{}
}

func (f OutboxFilter) args() []any {
	return append(f.Filter.args(), orNull(f.Lane), orNull(f.AggregateType), orNull(f.AggregateID))
}

// AggregateName says which aggregate something is about.
type AggregateName struct {
	Lane          string `json:"lane"`
	AggregateType string `json:"aggregate_type"`
	AggregateID   string `json:"aggregate_id"`
}

// Aggregate is a parked aggregate.
type Aggregate struct {
	AggregateName
	// Rows counts its parked rows.
	Rows int64 `json:"rows"`
	// ID and MsgID are those of its first row, the one that is to be published next.
	ID    int64     `json:"id"`
	MsgID uuid.UUID `json:"msg_id"`
	// Cause is why the first row waits: Refused, Topic, or Behind if the row before it was discarded
	// a moment ago.
	Cause string `json:"cause"`
	// Error says it in words; nil for Behind.
	Error *string `json:"error"`
	// Attempts is how often the first row was refused.
	Attempts int `json:"attempts"`
	// CreatedAt is when the first row was written to the outbox.
	CreatedAt time.Time `json:"created_at"`
	// Since is when the first row was parked, by the clock of Postgres; AgeSeconds is the time from
	// then to now.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	// Request is the oldest request that is not done, and Action what it asks for; nil if there is
	// none.
	Request *int64  `json:"request"`
	Action  *string `json:"action"`
}

// Aggregates is what an OutboxFilter has chosen.
type Aggregates struct {
	// Aggregates are those chosen, by lane, the one parked first at the top.
	Aggregates []Aggregate `json:"aggregates"`
	// TotalAggregates and TotalRows count all that match, also beyond the limit.
	TotalAggregates int64 `json:"total_aggregates"`
	TotalRows       int64 `json:"total_rows"`
}

// Counts returns how many queues are listed, and how many queues and items match in all.
func (l Aggregates) Counts() (shown, queues, items int64) {
	return int64(len(l.Aggregates)), l.TotalAggregates, l.TotalRows
}

// matching finds the aggregates that a filter chooses, as the parameters of OutboxFilter.args. The
// condition on the lane and the aggregate goes to the index; the rest is about the first row of
// each queue. Of a filter with an event, rows counts that event.
var matching = `
queues AS (
    SELECT DISTINCT ON (lane, aggregate_type, aggregate_id)
           lane, aggregate_type, aggregate_id, seq, id, msg_id, cause, error, attempts, created_at, parked_at,
           count(*) FILTER (WHERE $4::uuid IS NULL OR msg_id = $4) OVER (PARTITION BY lane, aggregate_type, aggregate_id) AS rows
      FROM outbox_parked
     WHERE released_seq IS NULL
       AND ($6::text IS NULL OR lane = $6) AND ($7::text IS NULL OR aggregate_type = $7) AND ($8::text IS NULL OR aggregate_id = $8)
       AND ($7::text IS NULL OR $8::text IS NULL OR ` + parking.QueueKey + ` = ` + parking.QueueKeyOf("$7", "$8") + `)
     ORDER BY lane, aggregate_type, aggregate_id, seq, id
), matching AS (
    SELECT *, extract(epoch FROM clock_timestamp() - parked_at)::float8 AS age,
           count(*) OVER () AS total_aggregates, (sum(rows) OVER ())::bigint AS total_rows
      FROM queues h
     WHERE rows > 0
       AND ` + firstMatches + `
     ORDER BY lane, seq, id
     LIMIT $5
)`

// columns of an Aggregate, of matching as m and its open request as open.
const columns = `m.lane, m.aggregate_type, m.aggregate_id, m.rows, m.id, m.msg_id::text, m.cause, m.error, m.attempts,
       m.created_at, m.parked_at, m.age, open.request, open.action, m.total_aggregates, m.total_rows`

var listQuery = `WITH ` + matching + `
SELECT ` + columns + `
  FROM matching m LEFT JOIN LATERAL (
       SELECT a.request, a.action FROM outbox_parked_audit a
        WHERE a.lane = m.lane AND a.aggregate_type = m.aggregate_type AND a.aggregate_id = m.aggregate_id
          AND a.done_seq IS NULL AND a.action <> 'skip'
        ORDER BY a.request LIMIT 1) AS open ON true
 ORDER BY m.lane, m.seq, m.id`

// List lists what is parked, in one snapshot. A lane that does not exist is an error. Errors are
// explained.
func (o Outbox) List(ctx context.Context, f OutboxFilter) (Aggregates, error) {
	var list Aggregates
	err := readOnly(ctx, o.conn, func(tx pgx.Tx) (err error) {
		if err = checkLane(ctx, tx, f.Lane); err != nil {
			return err
		}
		list, err = readAggregates(ctx, tx, f)
		return err
	})
	return list, err
}

func readAggregates(ctx context.Context, tx pgx.Tx, f OutboxFilter) (Aggregates, error) {
	list := Aggregates{Aggregates: []Aggregate{}}
	rows, err := tx.Query(ctx, listQuery, f.args()...)
	if err != nil {
		return list, fmt.Errorf("read outbox_parked: %w", explain(err))
	}
	var a Aggregate
	var event string
	fields := []any{
		&a.Lane, &a.AggregateType, &a.AggregateID, &a.Rows, &a.ID, &event, &a.Cause, &a.Error, &a.Attempts, &a.CreatedAt, &a.Since,
		&a.AgeSeconds, &a.Request, &a.Action, &list.TotalAggregates, &list.TotalRows,
	}
	_, err = pgx.ForEachRow(rows, fields, func() error {
		if a.MsgID, err = uuid.Parse(event); err != nil {
			return err
		}
		a.CreatedAt, a.Since = a.CreatedAt.UTC(), a.Since.UTC()
		list.Aggregates = append(list.Aggregates, a)
		return nil
	})
	if err != nil {
		return list, fmt.Errorf("read outbox_parked: %w", explain(err))
	}
	return list, nil
}

// checkLane returns an error if no relay has ever known the lane: most likely its name is misspelt.
func checkLane(ctx context.Context, tx pgx.Tx, lane string) error {
	if lane == "" {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT lane FROM relay_lanes ORDER BY lane`)
	if err != nil {
		return fmt.Errorf("read relay_lanes: %w", explain(err))
	}
	lanes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read relay_lanes: %w", explain(err))
	}
	for _, known := range lanes {
		if known == lane {
			return nil
		}
	}
	if len(lanes) == 0 {
		return hint.New("no relay has run a lane in this database or schema", "relay status; nothing is parked before a relay has run")
	}
	return hint.New(fmt.Sprintf("no lane is named %q in this database or schema", lane), "--lane with one of "+strings.Join(lanes, ", "))
}
