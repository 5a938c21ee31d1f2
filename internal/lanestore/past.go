package lanestore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Past is what the row says of the lane's past.
type Past struct {
	checkpoint.Row
	// Settings are those of the last owner, settingsBy; nil if none are recorded.
	Settings   *Settings
	settingsBy string
}

// PastColumns are the columns of relay_lanes that ScanPast reads.
const PastColumns = `seq, started, cluster_identity::text, snapshot_from::text, snapshot_to::text, last_id, batch_owner, batch_epoch,
confirmed_seq, confirmed_from::text, confirmed_to::text, confirmed_last_id,
(SELECT after ->> 'owner' FROM relay_recoveries r WHERE r.lane = relay_lanes.lane AND finished_at IS NULL ORDER BY id DESC LIMIT 1),
(SELECT coalesce(max(p.seq), 0) FROM outbox_parked p WHERE p.lane = relay_lanes.lane),
(SELECT table_oid FROM relay_bindings b WHERE b.lane = relay_lanes.lane AND started),
coalesce((SELECT table_name FROM relay_bindings b WHERE b.lane = relay_lanes.lane), ''),
(SELECT settings::text FROM relay_bindings b WHERE b.lane = relay_lanes.lane AND started),
coalesce((SELECT settings_by FROM relay_bindings b WHERE b.lane = relay_lanes.lane), '')`

// ScanPast reads PastColumns and, behind them, more.
func ScanPast(row pgx.Row, more ...any) (Past, error) {
	var state Past
	var identity, from, to, confirmedFrom, confirmedTo *string
	var lastID, confirmedLastID *int64
	var table *uint32
	var tableName string
	var settings *string
	err := row.Scan(append([]any{
		&state.Seq, &state.Started, &identity, &from, &to, &lastID, &state.BatchOwner, &state.BatchEpoch,
		&state.ConfirmedSeq, &confirmedFrom, &confirmedTo, &confirmedLastID, &state.Recovering, &state.Parked,
		&table, &tableName, &settings, &state.settingsBy,
	}, more...)...)
	if err != nil {
		return state, err
	}
	if identity != nil {
		state.Identity = new(checkpoint.ClusterIdentity)
		if err := json.Unmarshal([]byte(*identity), state.Identity); err != nil {
			return state, fmt.Errorf("read the cluster identity: %w", err)
		}
	}
	if table != nil {
		state.Table = &pg.Table{OID: *table, Name: tableName}
	}
	if settings != nil {
		state.Settings = new(Settings)
		if err := json.Unmarshal([]byte(*settings), state.Settings); err != nil {
			return state, fmt.Errorf("read the settings of the last owner: %w", err)
		}
		state.Name = (*state.Settings)["name"]
	}
	if state.After, err = position.FromColumns(from, to, lastID); err != nil {
		return state, err
	}
	state.Confirmed, err = position.FromColumns(confirmedFrom, confirmedTo, confirmedLastID)
	return state, err
}

// Read returns the row, if it is still ours.
func (l *Row) Read(ctx context.Context) (Past, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	state, err := ScanPast(l.conn.QueryRow(ctx,
		`SELECT `+PastColumns+` FROM relay_lanes WHERE lane = $1 AND owner_epoch = $2`, l.o.Lane, l.epoch))
	if errors.Is(err, pgx.ErrNoRows) {
		return state, ErrLost
	}
	if err != nil {
		return state, fmt.Errorf("read the row of lane %s: %w", l.o.Lane, err)
	}
	return state, nil
}

// Confirm records that the last batch intended has been committed, once no other is on its way.
// Should Kafka ever lose it, it is then not taken for an intent that never became a commit, and
// published a second time.
func (l *Row) Confirm(ctx context.Context) error {
	if l.committed != l.intended || l.confirmed == l.committed {
		return nil
	}
	err := l.write(ctx, "confirmation", `
UPDATE relay_lanes SET confirmed_seq = seq, confirmed_from = snapshot_from, confirmed_to = snapshot_to, confirmed_last_id = last_id
WHERE ctid = $1::text::tid AND lane = $2 AND owner_epoch = $3 AND seq = $4 RETURNING ctid::text`, l.committed)
	if err == nil {
		l.confirmed = l.committed
	}
	return err
}

// ReadNow asks on a session whose settings find the newest row in the index, such as the reader's.
func ReadNow(ctx context.Context, q pg.Rower, table string) (now checkpoint.Server, err error) {
	now.Table = table
	now.Xmax, now.Newest, err = outboxread.Newest(ctx, q, table)
	return now, err
}
