package backlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Backlog is what a lane had yet to publish at one moment.
type Backlog struct {
	// Rows that were committed and not published. Beyond Bound their number is an estimate from the
	// ids, and Estimated is set.
	Rows      int64
	Estimated bool
	// Age of the oldest of them by its created_at, 0 if there is none. If Estimated is set, it is
	// that of the oldest row which was looked at.
	Age time.Duration
	// Read is when it was counted.
	Read time.Time
}

// Bound is how many rows a look reads at most, of each of the two kinds in its query.
const Bound = 10_000

// Interval is the time between two looks.
const Interval = 5 * time.Second

// Options say what is counted, and who is told.
type Options struct {
	// Lane is the name of the lane, and Table its outbox, "table" or "schema.table".
	Lane, Table string
	// Database opens the session.
	Database *pg.Database
	// Position is up to where all is published, nil if this process does not know.
	Position func() *position.Position
	// Told receives each count, Locked who keeps readers off the table; "" if no session does.
	Told   func(Backlog)
	Locked func(reason string)
	Logger *slog.Logger
}

// Watch counts until ctx ends.
func Watch(ctx context.Context, o Options) {
	w := watcher{o: o}
	defer w.close()
	for {
		if err := w.look(ctx); err != nil && ctx.Err() == nil {
			// Metrics show it: the time of the last count stands still.
			o.Logger.Debug("backlog not counted", "error", err)
		}
		if backoff.Sleep(ctx, Interval) != nil {
			return
		}
	}
}

// watcher has the session of a Watch.
type watcher struct {
	o    Options
	conn *pgx.Conn // nil until it is needed, and after a failure
}

func (w *watcher) close() {
	if w.conn != nil {
		pg.Close(w.conn)
		w.conn = nil
	}
}

// look counts once. A session that fails is opened again by the next look.
func (w *watcher) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	if w.conn == nil {
		conn, err := w.o.Database.Connect(ctx, pg.Options{
			Application: "relay " + w.o.Lane + " backlog", Settings: settings, ReadOnly: true,
		})
		if err != nil {
			return err
		}
		w.conn = conn
	}
	found, err := w.count(ctx)
	switch {
	case err == nil:
		w.o.Locked("")
		w.o.Told(found)
		return nil
	case isLocked(err):
		reason, askErr := w.holder(ctx)
		w.o.Locked(reason)
		return errors.Join(err, askErr)
	}
	w.close()
	return err
}

// isLocked reports whether a lock of another session was waited for in vain.
func isLocked(err error) bool {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	return ok && answer.Code == "55P03" // lock_not_available
}

func (w *watcher) count(ctx context.Context) (Backlog, error) {
	at, err := w.position(ctx)
	if err != nil {
		return Backlog{}, err
	}
	return Count(ctx, w.conn, w.o.Table, *at)
}

// position is up to where all is published: as this process knows, or as the lane's row says.
func (w *watcher) position(ctx context.Context) (*position.Position, error) {
	if at := w.o.Position(); at != nil {
		return at, nil
	}
	var from, to *string
	var lastID *int64
	err := w.conn.QueryRow(ctx, progressQuery, w.o.Lane).Scan(&from, &to, &lastID)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the progress of lane %s: %w", w.o.Lane, err)
	}
	at, err := position.FromColumns(from, to, lastID)
	if err == nil && at == nil {
		at = &position.Position{From: position.Beginning}
	}
	return at, err
}

// Count counts the rows of a table that a position does not show as published. The settings of the
// session decide the plan.
func Count(ctx context.Context, conn *pgx.Conn, table string, at position.Position) (Backlog, error) {
	query, args := closedCount(table), []any{xid(at.From.Xmax), xids(at.From.Xip), Bound}
	if at.Open() {
		query, args = openCount(table), []any{at.From.String(), at.LastID, xids(at.To.Xip), Bound}
	}
	var looked, rows, last, newest int64
	var age float64
	if err := conn.QueryRow(ctx, query, args...).Scan(&looked, &rows, &last, &age, &newest); err != nil {
		return Backlog{}, fmt.Errorf("count the rows behind in %s: %w", table, err)
	}
	found := Backlog{Rows: rows, Age: time.Duration(age * float64(time.Second)), Read: time.Now()}
	if looked >= Bound {
		// Ids are drawn one after the other, so what lies beyond is about as dense as what was seen.
		found.Estimated = true
		found.Rows += int64(float64(max(0, newest-last)) * float64(rows) / float64(looked))
	}
	return found, nil
}

// holder says who keeps readers off the table.
func (w *watcher) holder(ctx context.Context) (string, error) {
	var pid int32
	var user, application string
	var seconds float64
	err := w.conn.QueryRow(ctx, holderQuery, pg.QuoteTable(w.o.Table)).Scan(&pid, &user, &application, &seconds)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Sprintf("table %s is locked against readers, so nothing is read", w.o.Table), nil
	}
	if err != nil {
		return fmt.Sprintf("table %s is locked against readers, so nothing is read", w.o.Table),
			fmt.Errorf("look for the lock of %s: %w", w.o.Table, err)
	}
	began := time.Now().Add(-time.Duration(seconds * float64(time.Second))).UTC().Format(time.RFC3339)
	return fmt.Sprintf("table %s is locked against readers, so nothing is read: by the session with pid %d (role %s, "+
		"application %q, in a transaction since %s); it goes on once that ends, or after SELECT pg_terminate_backend(%d)",
		w.o.Table, pid, user, application, began, pid), nil
}

func xid(x uint64) string { return fmt.Sprint(x) }

func xids(ids []uint64) string { return "{" + string(position.AppendXIDs(nil, ids)) + "}" }
