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
	// Impairments are what impairs the lane, each as one of a few words, for metrics and alerts; the
	// Reason says it in sentences. None if nothing does.
	Impairments []Impairment
	// Holds is whether this process has the lane: it has found the lane's lock free, and keeps it
	// while it takes over, publishes, waits or has halted. What else a LaneStatus says of the lane is
	// old if it does not.
	Holds bool
	// Backlog is what the lane had yet to publish when it was counted last, a few seconds ago. Nil
	// unless this process has the lane.
	Backlog *Backlog
}

// Backlog is what a lane had yet to publish at one moment.
type Backlog struct {
	// Rows that were committed and not published. If there are many, their number is an estimate,
	// and Estimated is set.
	Rows      int64
	Estimated bool
	// Age of the oldest of them, by its created_at and the clock of the database; 0 if there is none.
	Age time.Duration
	// Read is when it was counted, by the clock of this host.
	Read time.Time
}

// Impairment is what impairs a lane.
type Impairment string

// The impairments.
const (
	// ImpairedByHalt: the lane has halted.
	ImpairedByHalt Impairment = Impairment(engine.CauseHalted)
	// ImpairedByKafka: brokers do not answer, or refuse.
	ImpairedByKafka Impairment = Impairment(engine.CauseKafka)
	// ImpairedByPostgres: Postgres does not answer, or refuses.
	ImpairedByPostgres Impairment = Impairment(engine.CausePostgres)
	// ImpairedByTopic: the lane waits for a topic, or parks what goes there.
	ImpairedByTopic Impairment = Impairment(engine.CauseTopic)
	// ImpairedByTable: a session of another program keeps readers off the outbox.
	ImpairedByTable Impairment = Impairment(engine.CauseTable)
	// ImpairedByTransaction: the end of a Kafka transaction is not written everywhere, so
	// read_committed consumers may wait.
	ImpairedByTransaction Impairment = Impairment(engine.CauseTransaction)
	// ImpairedByParking: so much is parked that nothing new is published.
	ImpairedByParking Impairment = Impairment(engine.CauseParking)
	// ImpairedByLock: a session that is not a relay's holds the lock of the lane.
	ImpairedByLock Impairment = Impairment(engine.CauseLock)
	// ImpairedBySettings: this process has other settings than the owner of the lane.
	ImpairedBySettings Impairment = Impairment(engine.CauseSettings)
	// ImpairedByOther: anything else.
	ImpairedByOther Impairment = Impairment(engine.CauseOther)
)

// Impairments returns every Impairment.
func Impairments() []Impairment {
	return []Impairment{ImpairedByHalt, ImpairedByKafka, ImpairedByPostgres, ImpairedByTopic, ImpairedByTable,
		ImpairedByTransaction, ImpairedByParking, ImpairedByLock, ImpairedBySettings, ImpairedByOther}
}

func laneStatus(s engine.LaneStatus) LaneStatus {
	var impairments []Impairment
	for _, cause := range s.Causes {
		impairments = append(impairments, Impairment(cause))
	}
	return LaneStatus{
		Lane: s.Lane, State: State(s.State), Reason: s.Reason, Err: publicError(s.Err), Since: s.Since, Seq: s.Seq,
		ParkedAggregates: s.ParkedAggregates, Progress: s.Progress,
		Impairments: impairments, Holds: s.Holds, Backlog: (*Backlog)(s.Backlog),
	}
}
