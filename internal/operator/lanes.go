package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/preflight"
)

// Lane is how a lane stands.
type Lane struct {
	// Lane is the name of the lane.
	Lane string `json:"lane"`
	// Table is its outbox table; nil for a lane that the configuration does not name.
	Table *string `json:"table"`
	// State is what the owner last said: new, running, waiting or halted. New also means that no
	// relay has run it yet.
	State string `json:"state"`
	// Reason says why the lane waits or has halted, and what to do about it, or which topics a
	// running lane works without; nil otherwise.
	Reason *string `json:"reason"`
	// Owner is the process that took the lane over last, as host/pid/instance; nil before the
	// first.
	Owner *string `json:"owner"`
	// OwnerAlive is whether the session of the process that runs the lane lives at this moment.
	OwnerAlive bool `json:"owner_alive"`
	// LockStranger is a session that holds the advisory lock of the lane and is not the owner's; nil
	// if there is none.
	LockStranger *string `json:"lock_stranger"`
	// OwnerEpoch counts the takeovers.
	OwnerEpoch int64 `json:"owner_epoch"`
	// Seq is the sequence number of the last batch intended.
	Seq int64 `json:"seq"`
	// Bound is the table that the lane belongs to, with its schema; nil before the first takeover.
	Bound *string `json:"bound_table"`
	// Settings are those of the last owner, SettingsBy, that all replicas should have, by their
	// names; SettingsChanged says when they changed last, by whom, and from what to what. Nil before
	// the first takeover, and the last before the first change.
	Settings        map[string]string `json:"settings"`
	SettingsBy      *string           `json:"settings_by"`
	SettingsChanged *string           `json:"settings_changed"`
	// RowsBehind counts the committed rows that are not known to be published; nil if the table is
	// not known.
	RowsBehind *int64 `json:"rows_behind"`
	// SecondsBehind is the age of the oldest of them, 0 if there is none; nil if the table is not
	// known.
	SecondsBehind *float64 `json:"seconds_behind"`
	// ParkedAggregates and ParkedRows count what is parked; ParkedSince is when the row that waits
	// longest was parked, nil where there is none.
	ParkedAggregates int64      `json:"parked_aggregates"`
	ParkedRows       int64      `json:"parked_rows"`
	ParkedSince      *time.Time `json:"parked_since"`
	// UpdatedAt is when the owner last wrote its row; nil before the first time.
	UpdatedAt *time.Time `json:"updated_at"`
	// Warnings say what endangers the rows of the table, such as roles that may write the columns
	// that order rests on; empty if nothing does.
	Warnings []string `json:"warnings"`
}

// Lanes returns the configured lanes in their order, then those of the database that the
// configuration does not name. All of it is read in one snapshot. Errors are explained.
func Lanes(ctx context.Context, conn *pgx.Conn, configured []relay.Lane) ([]Lane, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", preflight.Explain(err))
	}
	lanes, err := readLanes(ctx, tx, configured)
	return lanes, errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
}

func readLanes(ctx context.Context, tx pgx.Tx, configured []relay.Lane) ([]Lane, error) {
	recorded, err := records(ctx, tx)
	if err != nil {
		return nil, err
	}
	var lanes []Lane
	for _, c := range configured {
		lane := Lane{Lane: c.Name, State: "new", Warnings: []string{}}
		i := slices.IndexFunc(recorded, func(l Lane) bool { return l.Lane == c.Name })
		if i >= 0 {
			lane = recorded[i]
			recorded = slices.Delete(recorded, i, i+1)
		}
		lane.Table = &c.Table
		if err := behind(ctx, tx, &lane); err != nil {
			return nil, err
		}
		warnings, err := preflight.TableWarnings(ctx, tx, c.Table)
		if err != nil {
			return nil, err
		}
		lane.Warnings = append(lane.Warnings, warnings...)
		lanes = append(lanes, lane)
	}
	return append(lanes, recorded...), nil
}

// parkedQuery counts what is parked. Rows that are on their way out are parked no more.
const parkedQuery = `
SELECT lane, count(*) AS aggregates, sum(rows) AS rows, min(since) AS since
  FROM (SELECT lane, count(*) AS rows, min(parked_at) AS since
          FROM outbox_parked WHERE released_seq IS NULL GROUP BY lane, aggregate_type, aggregate_id) AS queues
 GROUP BY lane`

func records(ctx context.Context, tx pgx.Tx) ([]Lane, error) {
	query := `SELECT lane, r.state, r.reason, r.owner, h.owner_pid <> 0, h.stranger, r.owner_epoch, r.seq, b.table_name, b.settings,
       b.settings_by, b.settings_changed, r.updated_at, coalesce(p.aggregates, 0), coalesce(p.rows, 0)::bigint, p.since
  FROM relay_lanes r LEFT JOIN relay_bindings b USING (lane) LEFT JOIN (` + parkedQuery + `) AS p USING (lane)
  JOIN (SELECT r.lane, ` + lanestore.HolderColumns + ` FROM relay_lanes r` + lanestore.HolderJoin + `) AS h USING (lane) ORDER BY lane`
	rows, err := tx.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read relay_lanes: %w", preflight.Explain(err))
	}
	lanes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Lane, err error) {
		l.Warnings = []string{}
		err = row.Scan(&l.Lane, &l.State, &l.Reason, &l.Owner, &l.OwnerAlive, &l.LockStranger, &l.OwnerEpoch, &l.Seq, &l.Bound,
			&l.Settings, &l.SettingsBy, &l.SettingsChanged, &l.UpdatedAt, &l.ParkedAggregates, &l.ParkedRows, &l.ParkedSince)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read relay_lanes: %w", preflight.Explain(err))
	}
	return lanes, nil
}

// behindQuery counts what the lane has yet to publish. Rows of older transactions than the
// snapshot's xmin are visible in it, so the range of the index leaves them out; a lane without
// progress has no snapshot, and every row counts.
var behindQuery = `
WITH progress AS (
    SELECT snapshot_from, snapshot_to, last_id FROM relay_lanes WHERE lane = $1 AND snapshot_from IS NOT NULL
), waiting AS (
    SELECT o.created_at
      FROM progress p, %[1]s o
     WHERE o.xact_id >= pg_snapshot_xmin(p.snapshot_from)
       AND NOT ` + position.Published("o.", "p.snapshot_from", "p.snapshot_to", "p.last_id") + `
     UNION ALL
    SELECT o.created_at FROM %[1]s o WHERE NOT EXISTS (SELECT FROM progress)
)
SELECT count(*), greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0))::float8 FROM waiting`

func behind(ctx context.Context, tx pgx.Tx, lane *Lane) error {
	table := pgx.Identifier(strings.Split(*lane.Table, ".")).Sanitize()
	var rows int64
	var seconds float64
	if err := tx.QueryRow(ctx, fmt.Sprintf(behindQuery, table), lane.Lane).Scan(&rows, &seconds); err != nil {
		return fmt.Errorf("count the rows behind in %s: %w", *lane.Table, preflight.Explain(err))
	}
	lane.RowsBehind, lane.SecondsBehind = &rows, &seconds
	return nil
}
