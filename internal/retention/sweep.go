package retention

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// rule says which rows may go: those that are published and older than the age.
type rule struct {
	published position.Position // committed in Kafka
	age       time.Duration
}

// lockNotAvailable is the SQLSTATE of a lock_timeout.
const lockNotAvailable = "55P03"

// How a sweep goes through the table.
const (
	sweepRows  = 1000        // the most rows of a statement, which is a transaction
	sweepAgain = time.Minute // how often it begins again at the lowest id, at least
	// sweepShare bounds what beginning again costs: a hundredth of the time. Until a vacuum has
	// passed, the first look walks the index entries of all rows that were deleted; an old snapshot
	// anywhere can keep a vacuum from removing them for hours.
	sweepShare = 100
)

// sweepQuery deletes what may go of the next rows after an id. It tells how many rows it looked at,
// how many of them it deleted, and the highest id of those. A row that does not belong to the
// windows published so far, or is too young, stays. So does every row of a table that is not the
// one with the oid $7, if that is not 0: what is published of one says nothing about another.
//
// It does not say FOR UPDATE SKIP LOCKED: that needs the right to update the row, and with it to
// give it another id, and writes each lock to the log beside the delete. See sweep.next for how a
// locked row is passed over.
func sweepQuery(table string) string {
	return `WITH seen AS MATERIALIZED (
    SELECT id, created_at <= now() - $3::float8 * interval '1 second' AND
           ` + position.Published("", "$4::text::pg_snapshot", "$5::text::pg_snapshot", "$6::bigint") + ` AS due
    FROM ` + table + ` WHERE id > $1::bigint AND $7::oid IN (0, ` + pg.OIDOf(table) + `) ORDER BY id LIMIT $2::bigint
), gone AS (
    DELETE FROM ` + table + ` WHERE id = ANY (ARRAY(SELECT id FROM seen WHERE due)) AND $7::oid IN (0, ` + pg.OIDOf(table) + `) RETURNING id
)
SELECT count(*), (SELECT count(*) FROM gone), coalesce(max(id) FILTER (WHERE due), 0) FROM seen`
}

// sweep goes through a table in the order of ids, from the oldest row on, and remembers where it
// was: the index entries of deleted rows stay until a vacuum has passed, and are not walked again
// each time. Rows that were passed over (a low id that committed late, a locked row) are found when
// it begins again.
type sweep struct {
	table string // quoted
	oid   uint32 // of the table that may be swept; 0 for any
	after int64
	rows  int       // of the next statement
	again time.Time // when to begin at the lowest id again
}

// round deletes until nothing more is due, and returns how many rows it deleted.
func (w *sweep) round(ctx context.Context, conn *pgx.Conn, r rule) (removed int64, err error) {
	if !time.Now().Before(w.again) {
		frontier := w.after
		w.after, w.rows = 0, sweepRows
		began := time.Now()
		// Whatever the way from the beginning finds, the next round goes on at the frontier.
		defer func() { w.after = max(w.after, frontier) }()
		n, more, err := w.next(ctx, conn, r)
		w.again = time.Now().Add(max(sweepAgain, sweepShare*time.Since(began)))
		if err != nil || !more {
			return n, err
		}
		removed = n
	}
	for {
		began := time.Now()
		n, more, err := w.next(ctx, conn, r)
		removed += n
		if err != nil || !more {
			return removed, err
		}
		// However much there is to do, others get their turn.
		if err := backoff.Sleep(ctx, max(2*time.Since(began), time.Millisecond)); err != nil {
			return removed, err
		}
	}
}

// next runs one statement and moves on behind what it deleted. If a row is locked by somebody
// else the statement gives up after the lock_timeout; fewer and fewer rows find out which row it
// is, and that one is passed over.
func (w *sweep) next(ctx context.Context, conn *pgx.Conn, r rule) (removed int64, more bool, err error) {
	from, to, last := r.published.Columns()
	var seen, due int64
	err = conn.QueryRow(ctx, sweepQuery(w.table), w.after, w.rows, r.age.Seconds(), from, to, last, w.oid).
		Scan(&seen, &removed, &due)
	if isLockTimeout(err) {
		return 0, true, w.narrow(ctx, conn)
	}
	if err != nil {
		return 0, false, fmt.Errorf("delete published rows: %w", err)
	}
	if due > 0 {
		w.after = due
	}
	more = seen == int64(w.rows) && removed > 0
	w.rows = min(2*w.rows, sweepRows)
	return removed, more, nil
}

// narrow asks for fewer rows, and passes over the one that is left.
func (w *sweep) narrow(ctx context.Context, conn *pgx.Conn) error {
	if w.rows > 1 {
		w.rows = max(1, w.rows/8)
		return nil
	}
	err := conn.QueryRow(ctx, `SELECT id FROM `+w.table+` WHERE id > $1 ORDER BY id LIMIT 1`, w.after).Scan(&w.after)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("pass over a locked row: %w", err)
	}
	return nil
}

// isLockTimeout reports whether somebody else held a lock for longer than a Cleaner waits.
func isLockTimeout(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == lockNotAvailable
}
