package relay

import (
	"time"

	engine "github.com/outbox-relay/relay/internal/relay"
)

// State is what a lane does in this process.
type State string

// The states of a lane.
const (
	// Standby: another process runs the lane, or it is not assigned yet.
	Standby State = State(engine.Standby)
	// TakingOver: this process ends what the previous owner left open and reads how far that one
	// came.
	TakingOver State = State(engine.TakingOver)
	// Running: the lane publishes, or is idle because there is nothing to publish.
	Running State = State(engine.Running)
	// Waiting: a broker, a topic, Postgres or a permission is missing. The lane goes on by itself.
	Waiting State = State(engine.Waiting)
	// Halted: the lane cannot go on until a person has acted. Err is a *HaltError.
	Halted State = State(engine.Halted)
)

// LaneStatus is the state of a lane as this process knows it.
type LaneStatus struct {
	// Lane is the name of the lane.
	Lane string
	// State is what the lane does.
	State State
	// Reason says in a sentence why the lane waits or has halted. In the state Running it names
	// what the lane works without, such as an unavailable topic; in Standby, in what its settings
	// differ from the owner's. Empty otherwise.
	Reason string
	// Err is the error behind Reason if the lane has halted, or waits because of an error. For a
	// halted lane, errors.As finds a *HaltError in it. Nil otherwise.
	Err error
	// Since is when State, or its Reason, last changed.
	Since time.Time
	// Seq is the number of the last batch that this process knows to be committed.
	Seq int64
	// ParkedAggregates is how many aggregates are parked. Only the process that runs the lane
	// knows; it is 0 elsewhere.
	ParkedAggregates int
	// Progress is when the lane last completed a read of the outbox or a commit. If it is old while
	// State is not Standby, the lane is stuck. A lane that does not run here has the time at which
	// Run began.
	Progress time.Time
}

func laneStatus(s engine.LaneStatus) LaneStatus {
	return LaneStatus{
		Lane: s.Lane, State: State(s.State), Reason: s.Reason, Err: publicError(s.Err), Since: s.Since, Seq: s.Seq,
		ParkedAggregates: s.ParkedAggregates, Progress: s.Progress,
	}
}
