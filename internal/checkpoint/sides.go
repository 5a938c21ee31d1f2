package checkpoint

import (
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Row is what Postgres says of the lane's past: its row in relay_lanes, and what belongs to it.
type Row struct {
	Seq     int64
	Started bool
	// Identity is nil if the row does not say.
	Identity *ClusterIdentity
	// Table is the one that the lane is bound to; nil if it is bound to none.
	Table *pg.Table
	// Name of the deployment under which the lane was run last; empty if the row does not say.
	Name string
	// After is the position after batch Seq, which BatchOwner intended under BatchEpoch. All three
	// are nil if the row has none.
	After      *position.Position
	BatchOwner *string
	BatchEpoch *int64
	// Confirmed is the position after batch ConfirmedSeq, the last that is known to be committed.
	Confirmed    *position.Position
	ConfirmedSeq *int64
	// Recovering owned the last recovery that was begun and not finished; nil if there is none.
	Recovering *string
	// Parked is the last batch that has parked a row which is still there; 0 for none.
	Parked int64
}

// BoundBy is the state with the table that the lane is bound to: the row's, which the change of
// layout keeps true, or if it has none the one that the checkpoint names.
func (r Row) BoundBy(last *Record) Row {
	if r.Table == nil && last != nil {
		r.Table = last.Table
	}
	return r
}

// Server is what the server itself says, beside the lane's row.
type Server struct {
	Xmax   uint64 // no transaction from this id on has ended; 0 if it is unknown
	Newest uint64 // the highest xact_id in the table, 0 if that is empty
	Table  string
	Name   string        // of the deployment; empty if it was not asked
	Bound  pg.Table      // what the lane's setting leads to; zero if it was not asked
	Old    func() string // says what is left of the table that the lane is bound to
}
