package recovery

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Choice is a way to settle a contradiction.
type Choice string

// The choices.
const (
	// ChooseKafka goes on after Kafka's checkpoint.
	ChooseKafka Choice = "kafka"
	// ChoosePostgres goes on after the last batch that Postgres knows to be committed.
	ChoosePostgres Choice = "postgres"
	// ChooseRestartFrom publishes every row from a place on that is still in the table.
	ChooseRestartFrom Choice = "restart-from"
	// ChooseSkipToNow takes every row that is in the table for published.
	ChooseSkipToNow Choice = "skip-to-now"
)

// Choices lists every Choice.
func Choices() []Choice {
	return []Choice{ChooseKafka, ChoosePostgres, ChooseRestartFrom, ChooseSkipToNow}
}

// Option is a choice that is open, and what it would do to the rows that are in the table now.
type Option struct {
	// Choice is its name.
	Choice Choice `json:"choice"`
	// Meaning says in a sentence what it does, Caution when it is wrong; Caution may be empty.
	Meaning string `json:"meaning"`
	Caution string `json:"caution"`
	// From is the place that restart-from starts at, as it was given.
	From string `json:"from,omitempty"`
	// Position is what the lane would take for published.
	Position position.Position `json:"progress"`
	// New are rows that would be published and are not known to be published yet.
	New Rows `json:"new"`
	// Again are rows that would be published, and that one of the logs or the scan knows to be
	// published.
	Again Rows `json:"again"`
	// Skipped are rows that would never be published, and that are not known to be.
	Skipped Rows `json:"skipped"`
}

// ClosedOption is a choice that is not open.
type ClosedOption struct {
	Choice Choice `json:"choice"`
	Reason string `json:"reason"`
}

// ErrPlace is wrapped by the error for a place that restart-from cannot start at.
var ErrPlace = errors.New("no place to start from")

// ParsePlace checks where restart-from is to start: an id, a time as RFC 3339, or "beginning".
func ParsePlace(text string) (id int64, at time.Time, err error) {
	if text == "" || text == "beginning" {
		return 0, time.Time{}, nil
	}
	if id, err := strconv.ParseInt(text, 10, 64); err == nil && id > 0 {
		return id, time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return 0, at, nil
	}
	return 0, time.Time{}, fmt.Errorf(
		"%q is neither an id nor a time such as 2026-01-31T14:05:00Z nor beginning: %w", text, ErrPlace)
}

// open works out which choices are open, without their counts.
func (r *Recovery) open(ctx context.Context, tx pgx.Tx, f *Findings, look Look) error {
	for _, way := range []func() (Option, string){f.kafkaOption, f.postgresOption} {
		option, reason := way()
		if reason == "" {
			f.Choices = append(f.Choices, option)
		} else {
			f.Closed = append(f.Closed, ClosedOption{option.Choice, reason})
		}
	}
	restart, err := r.restartOption(ctx, tx, look.From)
	if err != nil {
		return err
	}
	var text string
	if err := tx.QueryRow(ctx, "SELECT pg_current_snapshot()::text").Scan(&text); err != nil {
		return fmt.Errorf("read the snapshot: %w", err)
	}
	now, err := position.ParseSnapshot(text)
	if err != nil {
		return err
	}
	if restart.Position.LastID > 0 {
		restart.Position.To = now
	}
	f.Choices = append(f.Choices, restart, Option{
		Choice: ChooseSkipToNow, Position: position.Position{From: now},
		Meaning: "takes every row that is in the table for published, and goes on with what is written from now on",
	})
	return nil
}

// upgradeOnly is a caution for snapshots of another server.
const upgradeOnly = "right after pg_upgrade only, which keeps the transaction ids; after a dump and restore rows would be lost"

// kafkaOption is open if the checkpoint's snapshots mean on this server what they meant when they
// were taken.
func (f *Findings) kafkaOption() (Option, string) {
	option := Option{Choice: ChooseKafka, Meaning: "goes on after the batch that Kafka's checkpoint names"}
	if f.unreadable != nil {
		return option, "Kafka's last checkpoint cannot be read: " + f.unreadable.Reason
	}
	if f.last == nil {
		return option, "Kafka has no checkpoint of the lane"
	}
	from, live := f.last.Identity, f.Live.ClusterIdentity
	option.Position = f.last.Position
	switch {
	case f.elsewhere() && f.last.Xmax() <= f.Live.Xmax &&
		from.SameDatabase(live.Identity) && from.Timeline == live.Timeline:
		option.Meaning = "takes up the table at the place of the checkpoint"
		option.Caution = "right only if the table holds the rows of the old one with the ids and xact_id that they had, " +
			"as a copy does; all other rows that are visible in the checkpoint are skipped"
	case f.last.Xmax() > f.Live.Xmax:
		return option, fmt.Sprintf("it knows of transactions up to %d, and this server has come only to %d: "+
			"rows that will be written with the ids between would be taken for published", f.last.Xmax()-1, f.Live.Xmax-1)
	case from.SystemIdentifier != live.SystemIdentifier:
		option.Caution = upgradeOnly
	case from.DatabaseOID != live.DatabaseOID:
		return option, "it was written for another database, and rows that this one has had since the copy " +
			"would be taken for published"
	case from.Timeline > live.Timeline:
		return option, "this server does not have all transactions that it knows of"
	case from.Timeline < live.Timeline && (f.last.Seq > f.state.Seq || f.Cause == checkpoint.AnotherBatch):
		return option, "it knows of transactions that were cut off; this server gives their ids out again, and rows " +
			"written with these would be taken for published"
	case f.Cause == checkpoint.DatabaseBehind, f.Cause == checkpoint.RowRemoved, f.Cause == checkpoint.AnotherBatch:
		option.Caution = "right only if relay_lanes alone was restored or changed; if the whole database was set back, " +
			"rows written since then may be lost"
	}
	return option, ""
}

// again is what happens to batches after the last that is known to be committed.
const again = "what Kafka has beyond it, and the table still has, is published again"

// postgresOption is open if the row knows of a committed batch. The intended one does not count,
// because the row cannot know whether it was committed.
func (f *Findings) postgresOption() (Option, string) {
	option := Option{Choice: ChoosePostgres, Meaning: "goes on after the last batch that Postgres knows to be committed; " + again}
	s := f.state
	if f.elsewhere() {
		return option, "what it knows is of another table; kafka takes up the same place"
	}
	if f.Postgres == nil || !s.Started || s.Confirmed == nil || s.ConfirmedSeq == nil {
		return option, "relay_lanes knows of no committed batch"
	}
	option.Position = *s.Confirmed
	option.Meaning = fmt.Sprintf("goes on after batch %d, the last that Postgres knows to be committed; "+again, *s.ConfirmedSeq)
	switch {
	case s.Confirmed.Xmax() > f.Live.Xmax:
		return option, fmt.Sprintf("the row knows of transactions up to %d, and this server has come only to %d",
			s.Confirmed.Xmax()-1, f.Live.Xmax-1)
	case s.Identity == nil:
	case s.Identity.SystemIdentifier != f.Live.SystemIdentifier:
		option.Caution = upgradeOnly
	case s.Identity.Timeline > f.Live.Timeline:
		return option, "this server does not have all transactions that the row knows of"
	}
	if s.Identity != nil && s.Identity.ClusterID != f.Live.ClusterID {
		option.Meaning = fmt.Sprintf("goes on after batch %d, the last that Postgres knows to be committed "+
			"on the other cluster; nothing from before is published on this one", *s.ConfirmedSeq)
	}
	return option, ""
}

// restartOption translates the place into the id before the first row.
func (r *Recovery) restartOption(ctx context.Context, tx pgx.Tx, place string) (Option, error) {
	if place == "" {
		place = "beginning"
	}
	option := Option{Choice: ChooseRestartFrom, From: place, Position: position.Position{From: position.Beginning}}
	id, at, err := ParsePlace(place)
	if err != nil {
		return option, err
	}
	switch {
	case id > 0:
		option.Meaning = fmt.Sprintf("publishes every row of the table with id %d or above", id)
		option.Position.LastID = id - 1
	case !at.IsZero():
		option.Meaning = "publishes every row of the table from the first that was created at " + place +
			" or later, in the order of ids"
		var first *int64
		err := tx.QueryRow(ctx, "SELECT min(id) FROM "+pg.QuoteTable(r.o.Table)+" WHERE created_at >= $1", at).Scan(&first)
		if err != nil {
			return option, fmt.Errorf("find the first row created at %s or later: %w", place, err)
		}
		if first == nil {
			return option, fmt.Errorf("no row of %s was created at %s or later: %w", r.o.Table, place, ErrPlace)
		}
		option.Position.LastID = *first - 1
	default:
		option.Meaning = "publishes every row of the table; --from names another place, an id or a time"
	}
	return option, nil
}
