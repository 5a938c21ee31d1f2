package relay

import (
	"time"

	"github.com/outbox-relay/relay/internal/backlog"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/retention"
)

// State is what a lane does.
type State string

// The states of a lane in this process.
const (
	// Standby: another process runs the lane, or none has been assigned yet.
	Standby State = "standby"
	// TakingOver: fencing the predecessor and reading the checkpoint.
	TakingOver State = "taking-over"
	// Running: reading and publishing, or idle with nothing to publish.
	Running State = lanestore.Running
	// Waiting: something outside is unavailable (a broker, a topic, Postgres, a permission); the lane
	// goes on by itself.
	Waiting State = "waiting"
	// Halted: the lane cannot go on without a human; Reason says what to do.
	Halted State = lanestore.Halted
)

// LaneStatus is the state of a lane as this process knows it.
type LaneStatus struct {
	Lane   string
	State  State
	Reason string // why it waits or has halted, or what it runs without; empty otherwise
	Err    error  // that of Waiting and Halted; nil otherwise
	Since  time.Time
	Seq    int64 // of the last batch committed
	// ParkedAggregates is how many aggregates are parked, as far as the owner of the lane knows; 0
	// elsewhere.
	ParkedAggregates int
	// Progress is when the lane last completed a read of the outbox or a commit: readiness is judged
	// by it.
	Progress time.Time
	// Causes are what impairs the lane, for metrics; none if nothing does.
	Causes []Cause
	// Holds is whether this process has the lane: it has found the lane's lock free, and keeps it
	// while it takes over, publishes, waits or has halted.
	Holds bool
	// Backlog is what the lane had yet to publish when it was counted last; nil unless this process
	// has the lane.
	Backlog *backlog.Backlog
}

// Hooks are told what lanes do. Each may be nil.
type Hooks struct {
	Committed func(pipeline.Batch)
	Changed   func(LaneStatus)
	TookOver  func(lane string, took time.Duration, err error)
	Removed   func(retention.Removal)
	ClockRead func(lane string, deviation time.Duration)
}

func (h Hooks) committed(b pipeline.Batch) {
	if h.Committed != nil {
		h.Committed(b)
	}
}

func (h Hooks) changed(s LaneStatus) {
	if h.Changed != nil {
		h.Changed(s)
	}
}

func (h Hooks) tookOver(lane string, took time.Duration, err error) {
	if h.TookOver != nil {
		h.TookOver(lane, took, err)
	}
}

func (h Hooks) removed(r retention.Removal) {
	if h.Removed != nil {
		h.Removed(r)
	}
}

func (h Hooks) clockRead(lane string, deviation time.Duration) {
	if h.ClockRead != nil {
		h.ClockRead(lane, deviation)
	}
}
