package relay

import (
	"time"

	"github.com/outbox-relay/relay/internal/pipeline"
	engine "github.com/outbox-relay/relay/internal/relay"
	"github.com/outbox-relay/relay/internal/retention"
)

// Hooks are functions that a Relay calls when something happens, for metrics and alerts. Each may
// be nil.
//
// The relay calls them on the goroutines that publish, and waits for them: a hook that takes long
// slows its lane down, so hand work to another goroutine. Several lanes call the same hook at the
// same time.
type Hooks struct {
	// Committed is called after each committed Kafka transaction.
	Committed func(Batch)

	// Changed is called when a lane changes its State or its Reason, with the new ones.
	Changed func(LaneStatus)

	// TookOver is called after each attempt to become the owner of a lane, with the time that it
	// took. If it failed, err says why, and the relay tries again; errors.As finds a *HaltError in
	// err if the lane has halted.
	TookOver func(lane string, took time.Duration, err error)

	// Removed is called after each round of retention, also if there was nothing to remove.
	Removed func(Removal)

	// ClockRead is called after each reading of the clock of Postgres, which records are stamped
	// with. The deviation is positive if the clock of this host is ahead.
	ClockRead func(lane string, deviation time.Duration)
}

// Batch is one committed Kafka transaction.
type Batch struct {
	// Lane is the name of the lane, Seq the number of the batch in it.
	Lane string
	Seq  int64
	// Rows were sent, with so many Bytes of keys, payloads and headers.
	Rows  int
	Bytes int
	// Parked and Skipped rows were not sent. Released ones had been parked, and were published or
	// discarded.
	Parked, Skipped, Released int
	// Oldest is the created_at of the oldest row; zero if there is none.
	Oldest time.Time
	// Took is the time from the begin of the transaction to its commit.
	Took time.Duration
	// Delays are those of the rows.
	Delays Delays
}

// Delays count rows by the time from their created_at, which is when they were inserted, to the
// moment when the relay knows that their Kafka transaction is committed. Both are by the clock of
// the database. Rows that had been parked are left out. Rows[i] is how many took at most
// DelayBounds()[i] and longer than the bound before, and the last one counts those beyond the last
// bound. Sum is that of all of them.
type Delays = pipeline.Delays

// DelayBounds returns the bounds of Delays, ascending.
func DelayBounds() []time.Duration { return pipeline.DelayBounds[:] }

// Removal is one round of retention: what was removed from the outbox.
type Removal struct {
	// Lane is the name of the lane.
	Lane string
	// Rows that were deleted one by one. Those that went with their partition are not counted.
	Rows int64
	// Added, Emptied and Dropped are partitions of a partitioned outbox. Each goes through all
	// three.
	Added, Emptied, Dropped int
	// Err is why the round ended early; nil if all was removed that was due. Publishing goes on
	// either way.
	Err error
}

func (h Hooks) forEngine() engine.Hooks {
	calls := engine.Hooks{ClockRead: h.ClockRead}
	if h.Committed != nil {
		calls.Committed = func(b pipeline.Batch) { h.Committed(Batch(b)) }
	}
	if h.Changed != nil {
		calls.Changed = func(s engine.LaneStatus) { h.Changed(laneStatus(s)) }
	}
	if h.TookOver != nil {
		calls.TookOver = func(lane string, took time.Duration, err error) { h.TookOver(lane, took, publicError(err)) }
	}
	if h.Removed != nil {
		calls.Removed = func(r retention.Removal) { h.Removed(Removal(r)) }
	}
	return calls
}
