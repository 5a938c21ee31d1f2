package lanestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pg"
)

// A lane belongs to one table. Its progress says which transactions are published, and of another
// table that would be said without any reason: rows of it that are visible in the progress would
// never be sent, and would be deleted as published. A name is no identity, since it may lead to
// another table tomorrow, so the lane is bound to the oid: a rename, a rewrite and VACUUM FULL keep
// it, and the migration that changes the layout takes the lane along. Every read and every deletion
// checks it in the statement itself; see package outboxread and package retention.

// errNoTable says that the setting table names nothing.
var errNoTable = errors.New("table does not exist in the schemas of the search_path; correct table, or wait until it is made")

// FindTable finds the table that a setting names, and halts if it is no table.
func FindTable(ctx context.Context, q pg.Rower, lane, setting string) (pg.Table, error) {
	var t pg.Table
	var kind string
	var partition bool
	err := q.QueryRow(ctx, `SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relispartition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($1)`, pg.QuoteTable(setting)).
		Scan(&t.OID, &t.Name, &kind, &partition)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return t, fmt.Errorf("lane %s: %s: %w", lane, setting, errNoTable)
	case err != nil:
		return t, fmt.Errorf("lane %s: look up table %s: %w", lane, setting, err)
	case partition:
		return t, checkpoint.Halt("set table to the partitioned table",
			"lane %s: %s is a partition, whose rows are published with those of its parent", lane, t.Name)
	case kind != "r" && kind != "p":
		return t, checkpoint.Halt("set table to the outbox itself",
			"lane %s: %s is no table: it may show the rows of another table at any time", lane, t.Name)
	}
	return t, nil
}

// Look finds the lane's table, and reads what the row says before it is taken over.
func (l *Row) Look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	err := l.identify(ctx)
	if err != nil {
		return err
	}
	if l.table, err = FindTable(ctx, l.conn, l.o.Lane, l.o.Table); err != nil {
		return err
	}
	row, err := ScanPast(l.conn.QueryRow(ctx, `SELECT `+PastColumns+` FROM relay_lanes WHERE lane = $1`, l.o.Lane))
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("read the row of lane %s: %w", l.o.Lane, err)
	}
	l.before = row
	return nil
}

// Bind halts where the lane belongs to another table, or the table to another lane. It is the first
// step of a takeover: no process has been fenced, and no row has been read.
func (l *Row) Bind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	if err := l.Look(ctx); err != nil {
		return err
	}
	row := l.before
	if err := CheckOtherLanes(ctx, l.conn, l.o.Lane, l.table); err != nil {
		return err
	}
	if row.Identity != nil && !row.Identity.SameDatabase(l.server.Identity) {
		return nil // oids of another database say nothing, and the cluster identity halts the lane
	}
	return checkpoint.CompareTable(l.o.Lane, row.Table, l.table, func() string { return DescribeOldTable(ctx, l.conn, row.Row) })
}

// CheckOtherLanes halts where another lane publishes the table.
func CheckOtherLanes(ctx context.Context, q pg.Rower, lane string, table pg.Table) error {
	var other string
	err := q.QueryRow(ctx, `SELECT b.lane FROM relay_bindings b JOIN relay_lanes r USING (lane)
WHERE b.table_oid = $1 AND b.lane <> $2 AND r.started`, table.OID, lane).Scan(&other)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for other lanes of table %s: %w", table.Name, err)
	}
	return tableTaken(lane, table, "lane "+other)
}

func tableTaken(lane string, table pg.Table, other string) error {
	return checkpoint.Contradiction(checkpoint.TableTaken,
		"name the table in one lane only, and keep the name of a lane; "+
			"if the other lane is gone for good, "+
			"and all rows that are still in the table may be sent again, take the table from it: DELETE FROM relay_bindings WHERE "+
			fmt.Sprintf("table_oid = %d", table.OID),
		"lane %s: table %s belongs to %s: each of its events would be sent twice", lane, table, other)
}

// isTableTaken reports whether another lane took the table at the same time.
func isTableTaken(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.ConstraintName == "relay_bindings_table_oid_key"
}

// Counting what is left in the old table must not hold the diagnosis up.
const (
	orphansLimit = 1_000_000
	orphansTime  = 3 * time.Second
)

// beginner is a connection, or a transaction that can have one inside.
type beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// DescribeOldTable says what has become of the table that the lane belongs to, and what of it is
// not published.
func DescribeOldTable(ctx context.Context, db beginner, row checkpoint.Row) string {
	text, name := "", ""
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf(`SET LOCAL statement_timeout = %d`, orphansTime.Milliseconds())); err != nil {
			return err
		}
		err := tx.QueryRow(ctx, `SELECT c.oid::regclass::text, format('%I.%I', n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 AND c.relkind IN ('r', 'p')`, row.Table.OID).Scan(&name, &text)
		if errors.Is(err, pgx.ErrNoRows) {
			text = "the old table does not exist any more, and with it has gone what was not published"
			return nil
		}
		if err != nil {
			return err
		}
		if text == row.Table.Name {
			text = "the old table is still there"
		} else {
			text = "the old table is now " + text
		}
		count, err := countOrphans(ctx, tx, name, row)
		if err == nil {
			text += ", with " + count
		}
		return err
	})
	if err != nil {
		return text + "; what is not published of it could not be counted: " + err.Error()
	}
	return text
}

// countOrphans counts the rows of the old table that are not published.
func countOrphans(ctx context.Context, tx pgx.Tx, table string, row checkpoint.Row) (string, error) {
	condition, params := "true", []any(nil)
	if row.After != nil {
		condition, params = row.After.Published(2)
		condition = "xact_id >= $1::text::xid8 AND NOT " + condition
		params = append([]any{fmt.Sprint(row.After.From.Xmin)}, params...)
	}
	var rows int
	query := fmt.Sprintf(`SELECT count(*) FROM (SELECT FROM %s WHERE %s LIMIT %d) one`, table, condition, orphansLimit+1)
	err := tx.QueryRow(ctx, query, params...).Scan(&rows)
	if rows > orphansLimit {
		return fmt.Sprintf("more than %d rows that are not published", orphansLimit), err
	}
	return fmt.Sprintf("%d rows that are not published", rows), err
}

// recordBinding writes what the lane is bound to, in the transaction that completes a
// takeover or a recovery.
func (l *Row) recordBinding(ctx context.Context, tx pgx.Tx) error {
	if l.table.OID == 0 {
		return nil
	}
	settings, err := json.Marshal(l.o.Settings)
	if err != nil {
		return fmt.Errorf("encode the settings of lane %s: %w", l.o.Lane, err)
	}
	// A lane whose row was removed has no table any more.
	_, err = tx.Exec(ctx, `DELETE FROM relay_bindings b WHERE table_oid = $1 AND lane <> $2
  AND NOT EXISTS (SELECT FROM relay_lanes r WHERE r.lane = b.lane AND r.started)`, l.table.OID, l.o.Lane)
	if err == nil {
		_, err = tx.Exec(ctx, `
INSERT INTO relay_bindings AS b (lane, table_oid, table_name, settings, settings_by, settings_changed)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6)
ON CONFLICT (lane) DO UPDATE SET table_oid = excluded.table_oid, table_name = excluded.table_name, settings = excluded.settings,
       settings_by = excluded.settings_by, settings_changed = coalesce(excluded.settings_changed, b.settings_changed),
       bound_at = clock_timestamp()`, l.o.Lane, l.table.OID, l.table.Name, string(settings), l.o.Owner, l.changedSettings())
	}
	if isTableTaken(err) {
		return tableTaken(l.o.Lane, l.table, "another lane, since a moment ago")
	}
	if err != nil {
		return fmt.Errorf("bind lane %s to its table: %w", l.o.Lane, err)
	}
	return nil
}

// SayBefore records the state of a lane that could not be taken over, if the row names this
// session.
func (l *Row) SayBefore(ctx context.Context, state, reason string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := l.conn.Exec(ctx, `UPDATE relay_lanes SET state = $2, reason = $3, updated_at = clock_timestamp()
WHERE lane = $1 AND owner_pid = pg_backend_pid()`, l.o.Lane, state, reason)
	return err
}
