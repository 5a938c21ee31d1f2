package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/preflight"
)

// Behind is the cause of a row or a message that waits for an earlier one of its queue.
const Behind = "behind"

// Filter chooses queues of parked rows or messages, by what both sides have. The zero value chooses
// all of them; several fields must all hold.
type Filter struct {
	// Cause of the first one in the queue; empty for any.
	Cause string
	// Error is a part of the error of the first one, in any case; empty for any.
	Error string
	// OlderThan is how long the first one has been parked at least; 0 for any.
	OlderThan time.Duration
	// MsgID is the identity of one of them, anywhere in the queue; empty for any.
	MsgID string
	// Limit bounds the queues, those that have been parked for longest first; 0 for no bound.
	Limit int
}

// args are the parameters $1 to $5 of a query: first, the event, and the limit.
func (f Filter) args() []any {
	return []any{orNull(f.Cause), orNull(f.Error), orNull(f.OlderThan.Seconds()), orNull(f.MsgID), orNull(f.Limit)}
}

// firstMatches is the condition of a Filter on the head of a queue, h.
const firstMatches = `($1::text IS NULL OR h.cause = $1)
       AND ($2::text IS NULL OR strpos(lower(h.error), lower($2)) > 0)
       AND ($3::float8 IS NULL OR h.parked_at <= clock_timestamp() - make_interval(secs => $3))`

// orNull is a parameter that is null if nothing was set.
func orNull[T comparable](value T) *T {
	var unset T
	if value == unset {
		return nil
	}
	return &value
}

func inUTC(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	utc := at.UTC()
	return &utc
}

// The pauses between the looks of await.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 500 * time.Millisecond
)

// await looks again and again until nothing that was asked for is open. The end of ctx ends it with
// its error.
func await(ctx context.Context, look func(context.Context) (open int, err error)) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pause := firstPause
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		// A statement that is cut short would take the connection with it, so it is let through to its
		// end.
		whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		open, err := look(whole)
		cancel()
		if err != nil || open == 0 {
			return err
		}
		timer.Reset(pause)
		pause = min(2*pause, longestPause)
	}
}

// readOnly runs work in one snapshot that changes nothing.
func readOnly(ctx context.Context, conn *pgx.Conn, work func(pgx.Tx) error) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin: %w", preflight.Explain(err))
	}
	return errors.Join(work(tx), tx.Rollback(context.WithoutCancel(ctx)))
}

// ErrNotThere is wrapped by the errors of Show and Payload if nothing is parked under that name.
var ErrNotThere = errors.New("nothing is parked")

// missing is an error that wraps ErrNotThere and reads as its text alone.
type missing struct{ text string }

func (m missing) Error() string        { return m.text }
func (m missing) Is(target error) bool { return target == ErrNotThere }

func notThere(try, format string, args ...any) error {
	return hint.Wrap(missing{fmt.Sprintf(format, args...)}, "%s", try)
}

// explain adds a hint to an error of Postgres about the tables of the outbox.
func explain(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		return hint.New(preflight.Explain(err).Error(),
			"GRANT relay_operator TO the login of --database-url; sql/roles.sql makes that role")
	}
	return preflight.Explain(err)
}

// ExplainInbox adds a hint to an error of Postgres about the tables of the inbox.
func ExplainInbox(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return preflight.Explain(err)
	}
	try := ""
	switch pg.Code {
	case "42501":
		try = "GRANT inbox_operator TO the login of --database-url; sql/inbox/roles.sql makes that role"
	case "42P01", "42703", "42883":
		try = "relay inbox migrate up --database-url … (with --schema if the inbox has its own schema)"
	case "55P03":
		try = "again in a moment: a handler works on that message, or a longer --wait"
	default:
		return preflight.Explain(err)
	}
	return hint.New(preflight.Explain(err).Error(), try)
}
