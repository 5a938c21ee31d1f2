package recovery

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// Findings is what both logs say of a lane, what contradicts what, and the choices.
type Findings struct {
	// Lane is the name of the lane, Table its outbox table.
	Lane  string `json:"lane"`
	Table string `json:"table"`
	// Cause is the kind of the contradiction; empty if the logs agree.
	Cause checkpoint.Cause `json:"cause"`
	// Diagnosis says what contradicts what, Try what to do; empty if the logs agree.
	Diagnosis string `json:"diagnosis"`
	Try       string `json:"try"`
	// Postgres is the lane's row; nil if there is none.
	Postgres *PostgresSide `json:"postgres"`
	// Kafka is the checkpoint topic.
	Kafka KafkaSide `json:"kafka"`
	// Live is the server and the cluster that this process talks to.
	Live LiveSide `json:"live"`
	// Choices are those that are open; none if the logs agree.
	Choices []Option `json:"choices"`
	// Closed are those that are not, each with the reason.
	Closed []ClosedOption `json:"closed"`
	// Scan is what was read from the data topics; nil if that was not asked for.
	Scan *Scan `json:"scan"`

	state      lanestore.Past
	last       *checkpoint.Record
	unreadable *checkpoint.UnreadableError // in its place
}

// PostgresSide is the lane's row in relay_lanes.
type PostgresSide struct {
	Seq         int64                       `json:"seq"`
	Started     bool                        `json:"started"`
	After       *position.Position          `json:"after"`
	BatchOwner  *string                     `json:"batch_owner"`
	BatchEpoch  *int64                      `json:"batch_epoch"`
	Confirmed   *int64                      `json:"confirmed_seq"`
	ConfirmedAt *position.Position          `json:"confirmed"`
	Identity    *checkpoint.ClusterIdentity `json:"cluster_identity"`
	// Table is the one that the lane is bound to; nil if it is bound to none.
	Table *pg.Table `json:"table"`
	// Settings are those of the last owner that all replicas should have.
	Settings   map[string]string `json:"settings"`
	Owner      *string           `json:"owner"`
	OwnerEpoch int64             `json:"owner_epoch"`
	// OwnerAlive is whether the session of the owner lives.
	OwnerAlive bool      `json:"owner_alive"`
	State      string    `json:"state"`
	Reason     *string   `json:"reason"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// KafkaSide is the lane's partition of the checkpoint topic.
type KafkaSide struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	// Exists is whether the partition is there; Start and End are its offsets.
	Exists bool  `json:"exists"`
	Start  int64 `json:"start"`
	End    int64 `json:"end"`
	// Checkpoint is the last committed one, with its offset and its time; nil if there is none.
	Checkpoint *checkpoint.Record `json:"checkpoint"`
	Offset     *int64             `json:"offset"`
	Written    *time.Time         `json:"written"`
	// Unreadable is set if the last committed checkpoint cannot be read; Offset and Written are
	// then those of that record.
	Unreadable *UnreadableCheckpoint `json:"unreadable"`
}

// UnreadableCheckpoint is a record with the key of a checkpoint that this relay cannot read.
type UnreadableCheckpoint struct {
	// Reason says why.
	Reason string `json:"reason"`
	// Version is the one that it claims to be of; 0 if it claims none.
	Version int `json:"version"`
}

// LiveSide is what the servers say of themselves.
type LiveSide struct {
	checkpoint.ClusterIdentity
	// Table is the one that the setting leads to.
	Table pg.Table `json:"table"`
	// Xmax is the first transaction id of the server that has not ended.
	Xmax uint64 `json:"xmax"`
	// Time is the server's clock.
	Time time.Time `json:"time"`
}

// note takes a contradiction into the findings and returns any other error. An unreadable
// checkpoint is still named beside another one.
func (f *Findings) note(err error) error {
	fault := (*checkpoint.HaltError)(nil)
	if !errors.As(err, &fault) {
		return err
	}
	diagnosis := fault.Diagnosis
	if f.Cause == checkpoint.CheckpointUnreadable {
		diagnosis += "; and " + f.Diagnosis
	}
	f.Cause, f.Diagnosis, f.Try = fault.Cause, diagnosis, fault.Try
	return nil
}

// Keep leaves out every other open choice.
func (f *Findings) Keep(choice Choice) {
	f.Choices = slices.DeleteFunc(f.Choices, func(o Option) bool { return o.Choice != choice })
}

// Recoverable reports whether there is a contradiction that a choice settles.
func (f *Findings) Recoverable() bool {
	switch f.Cause {
	case "", checkpoint.CheckpointPolicy, checkpoint.ForeignRows, checkpoint.AnotherLane, checkpoint.TableTaken:
		return false
	}
	return true
}

// chosen returns the option of a choice, or why it is none.
func (f *Findings) chosen(choice Choice) (Option, error) {
	if f.Cause == "" {
		return Option{}, ErrAgree
	}
	if !f.Recoverable() {
		return Option{}, fmt.Errorf("%w: %s; %s", ErrClosed, f.Diagnosis, f.Try)
	}
	if i := slices.IndexFunc(f.Choices, func(o Option) bool { return o.Choice == choice }); i >= 0 {
		return f.Choices[i], nil
	}
	for _, closed := range f.Closed {
		if closed.Choice == choice {
			return Option{}, fmt.Errorf("%s: %w: %s", choice, ErrClosed, closed.Reason)
		}
	}
	return Option{}, fmt.Errorf("%q: %w", choice, ErrClosed)
}

// elsewhere reports whether what the logs know is of the rows of another table.
func (f *Findings) elsewhere() bool {
	return f.Cause == checkpoint.AnotherTable || f.Cause == checkpoint.AnotherDeployment
}

// unknownBatches is how far a recovery stays away from the number of a checkpoint that it cannot
// read: farther than any lane comes, so that the number is not used again.
const unknownBatches = 1_000_000_000_000

// lastSeq is a number that neither log is beyond.
func (f *Findings) lastSeq() int64 {
	seq := max(f.state.Seq, f.state.Parked) // what later batches have parked would be undone
	if f.last != nil {
		seq = max(seq, f.last.Seq)
	}
	if f.unreadable == nil {
		return seq
	}
	if f.unreadable.Seq < math.MaxInt64/2 { // it is only a claim, and must leave room
		seq = max(seq, f.unreadable.Seq)
	}
	return seq + unknownBatches
}

// checkpoint is the last one, or what stands for it.
func (f *Findings) checkpoint() *checkpoint.Record {
	if f.unreadable != nil {
		return f.unreadable.Placeholder()
	}
	return f.last
}

// warnOfNewer adds a caution to each choice, because it replaces a checkpoint of a newer relay.
func (f *Findings) warnOfNewer() {
	if f.unreadable == nil || !f.unreadable.Newer() {
		return
	}
	caution := fmt.Sprintf("a newer relay wrote the last checkpoint (version %d, and this relay knows only version %d), "+
		"and this choice replaces it: right only if no newer relay is to run the lane; otherwise upgrade this relay, "+
		"which needs no choice",
		f.unreadable.Version, checkpoint.Version)
	for n := range f.Choices {
		if f.Choices[n].Caution != "" {
			f.Choices[n].Caution += "; "
		}
		f.Choices[n].Caution += caution
	}
}
