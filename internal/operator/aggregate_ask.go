package operator

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/parking"
)

// Action is what is asked for.
type Action string

// The actions.
const (
	// Retry publishes the queue in order, up to the first row that is refused again.
	Retry Action = "retry"
	// Discard removes the queue, or one row of it, for good.
	Discard Action = "discard"
)

// AskedAggregate is a request about one parked aggregate.
type AskedAggregate struct {
	AggregateName
	// MsgID is the one event meant; nil for the whole queue.
	MsgID *string `json:"msg_id"`
	// Rows counts the rows that are meant, as they were when it was asked.
	Rows int64 `json:"rows"`
	// Request is the number of the request; nil in a dry run.
	Request *int64 `json:"request"`
	// Joined is true if the same had been asked for before and was still open: no second request was
	// made.
	Joined bool `json:"joined"`
	// Done is true once it has been carried out; Outcome then says what came of it, and Events were
	// published or discarded.
	Done    bool    `json:"done"`
	Outcome *string `json:"outcome"`
	Events  int64   `json:"events"`
}

// Ended reports whether the request was carried out.
func (a AskedAggregate) Ended() bool { return a.Done }

// FailedAgain reports whether a retry ended at a row that can still not be sent.
func (a AskedAggregate) FailedAgain() bool {
	return a.Outcome != nil && strings.HasPrefix(*a.Outcome, "refused again")
}

// askQuery makes a request for each of the named aggregates that is still parked, if the same is
// not open already. It is quick, however much is parked: a request that came after the owner has
// stopped looking would lie there until it looks again. Who asks is the default of requested_by.
var askQuery = `
WITH m AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS named (lane, aggregate_type, aggregate_id, place)
     WHERE EXISTS (SELECT FROM outbox_parked p
                    WHERE p.lane = named.lane
                      AND ` + parking.QueueKey + ` = ` + parking.QueueKeyOf("named.aggregate_type", "named.aggregate_id") + `
                      AND p.aggregate_type = named.aggregate_type AND p.aggregate_id = named.aggregate_id
                      AND p.released_seq IS NULL AND ($4::uuid IS NULL OR p.msg_id = $4))
), asked AS (
    INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, reason)
    SELECT m.lane, $5::text, m.aggregate_type, m.aggregate_id, $4, $6::text
      FROM m WHERE NOT EXISTS (` + openQuery + `) ORDER BY m.place
    RETURNING request, lane, aggregate_type, aggregate_id
)
SELECT m.place, coalesce(a.request, (` + openQuery + ` ORDER BY o.request LIMIT 1)), a.request IS NULL
  FROM m LEFT JOIN asked a USING (lane, aggregate_type, aggregate_id) ORDER BY m.place`

const openQuery = `SELECT o.request FROM outbox_parked_audit o
    WHERE o.lane = m.lane AND o.aggregate_type = m.aggregate_type AND o.aggregate_id = m.aggregate_id
      AND o.action = $5 AND o.msg_id IS NOT DISTINCT FROM $4 AND o.done_seq IS NULL`

// Plan returns what Ask would ask for, and changes nothing. Errors are explained.
func (o Outbox) Plan(ctx context.Context, f OutboxFilter) ([]AskedAggregate, error) {
	list, err := o.List(ctx, f)
	if err != nil {
		return nil, err
	}
	asked := []AskedAggregate{}
	for _, a := range list.Aggregates {
		asked = append(asked, AskedAggregate{AggregateName: a.AggregateName, MsgID: orNull(f.MsgID), Rows: a.Rows})
	}
	return asked, nil
}

// Ask asks for the action on each aggregate that the filter chooses, for the given reason, which
// must not be empty, and does not wait. All requests are made or none. Retry is about whole queues:
// its filter must not name an event. Errors are explained.
func (o Outbox) Ask(ctx context.Context, action Action, f OutboxFilter, reason string) ([]AskedAggregate, error) {
	plan, err := o.Plan(ctx, f)
	if err != nil || len(plan) == 0 {
		return plan, err
	}
	lanes, types, ids := make([]string, len(plan)), make([]string, len(plan)), make([]string, len(plan))
	for i, a := range plan {
		lanes[i], types[i], ids[i] = a.Lane, a.AggregateType, a.AggregateID
	}
	rows, err := o.conn.Query(ctx, askQuery, lanes, types, ids, orNull(f.MsgID), string(action), reason)
	if err != nil {
		return nil, fmt.Errorf("write outbox_parked_audit: %w", explain(err))
	}
	asked := []AskedAggregate{}
	var place int
	var request int64
	var joined bool
	_, err = pgx.ForEachRow(rows, []any{&place, &request, &joined}, func() error {
		a, number := plan[place-1], request
		a.Request, a.Joined = &number, joined
		asked = append(asked, a)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write outbox_parked_audit: %w", explain(err))
	}
	return asked, nil
}

// Await waits until every request has been carried out, and fills in what came of them. The end of
// ctx ends it with its error; what was done by then is filled in. Other errors are explained.
func (o Outbox) Await(ctx context.Context, asked []AskedAggregate) error {
	return await(ctx, func(ctx context.Context) (int, error) { return o.look(ctx, asked) })
}

// look fills in which of the requests are done, and returns how many are not.
func (o Outbox) look(ctx context.Context, asked []AskedAggregate) (open int, err error) {
	places := make(map[int64]int)
	numbers := []int64{}
	for i, a := range asked {
		if a.Request != nil && !a.Done {
			places[*a.Request] = i
			numbers = append(numbers, *a.Request)
		}
	}
	if len(numbers) == 0 {
		return 0, nil
	}
	rows, err := o.conn.Query(ctx, `
SELECT request, outcome, events FROM outbox_parked_audit WHERE request = ANY($1) AND done_at IS NOT NULL`, numbers)
	if err != nil {
		return 0, fmt.Errorf("read outbox_parked_audit: %w", explain(err))
	}
	var request, events int64
	var outcome *string
	tag, err := pgx.ForEachRow(rows, []any{&request, &outcome, &events}, func() error {
		a := &asked[places[request]]
		a.Done, a.Outcome, a.Events = true, outcome, events
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read outbox_parked_audit: %w", explain(err))
	}
	return len(numbers) - int(tag.RowsAffected()), nil
}

// Idle says of each lane that the requests are about why they are not carried out now: no relay
// runs it, or it waits or has halted. It is empty where all of them run. Errors are explained.
func (o Outbox) Idle(ctx context.Context, asked []AskedAggregate) ([]string, error) {
	lanes, err := Lanes(ctx, o.conn, nil)
	if err != nil {
		return nil, err
	}
	about := make(map[string]bool)
	for _, a := range asked {
		about[a.Lane] = true
	}
	var idle []string
	for _, l := range lanes {
		switch {
		case !about[l.Lane]:
		case !l.OwnerAlive:
			idle = append(idle, fmt.Sprintf("no relay runs lane %s at this moment, so requests about it wait until one does", l.Lane))
		case l.State != "running" && l.Reason != nil:
			idle = append(idle, fmt.Sprintf("lane %s is %s, so requests about it wait: %s", l.Lane, l.State, *l.Reason))
		}
	}
	return idle, nil
}
