package relay

import (
	"errors"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// HaltError says why a lane has halted: going on without a person's decision would lose or repeat
// events. It is found with errors.As in LaneStatus.Err and in the error of the hook TookOver.
type HaltError struct {
	// Cause is the kind of the contradiction, for programs. It is empty if a row cannot be sent and
	// Config.Poison is Halt, and for faults that are not mended by a recovery.
	Cause Cause
	// Diagnosis says what contradicts what.
	Diagnosis string
	// Try says what to do.
	Try string
}

// Error returns the diagnosis and what to do.
func (e *HaltError) Error() string { return e.Diagnosis + "; " + e.Try }

// publicError returns err, or the HaltError in it if there is one.
func publicError(err error) error {
	if halt := (*checkpoint.HaltError)(nil); errors.As(err, &halt) {
		return &HaltError{Cause: Cause(halt.Cause), Diagnosis: halt.Diagnosis, Try: halt.Try}
	}
	return err
}

// Cause is the kind of a contradiction between Postgres and Kafka.
type Cause string

// The kinds of contradictions.
const (
	// CheckpointLost: Postgres knows of batches, and the checkpoint topic is empty.
	CheckpointLost Cause = Cause(checkpoint.CheckpointLost)
	// CheckpointBehind: the checkpoint topic has lost its last records.
	CheckpointBehind Cause = Cause(checkpoint.CheckpointBehind)
	// CheckpointUnreadable: the last checkpoint was written by a newer relay, or not by a relay.
	CheckpointUnreadable Cause = Cause(checkpoint.CheckpointUnreadable)
	// CheckpointPolicy: the settings of the checkpoint topic let brokers delete the checkpoint.
	CheckpointPolicy Cause = Cause(checkpoint.CheckpointPolicy)
	// DatabaseBehind: the database, or the table relay_lanes, was set back to an earlier time.
	DatabaseBehind Cause = Cause(checkpoint.DatabaseBehind)
	// RowRemoved: the row of the lane in relay_lanes is missing.
	RowRemoved Cause = Cause(checkpoint.RowRemoved)
	// AnotherBatch: Postgres and Kafka have different batches with the same number.
	AnotherBatch Cause = Cause(checkpoint.AnotherBatch)
	// AnotherDatabase: the lane belongs to another database or server.
	AnotherDatabase Cause = Cause(checkpoint.AnotherDatabase)
	// EarlierTimeline: a standby was promoted and the lane went on there; this is the server from
	// before.
	EarlierTimeline Cause = Cause(checkpoint.EarlierTimeline)
	// AnotherCluster: the lane belongs to another Kafka cluster.
	AnotherCluster Cause = Cause(checkpoint.AnotherCluster)
	// AnotherDeployment: the lane belongs to the relays of another schema of this database.
	AnotherDeployment Cause = Cause(checkpoint.AnotherDeployment)
	// AnotherTable: the lane belongs to another table than the one that Lane.Table names.
	AnotherTable Cause = Cause(checkpoint.AnotherTable)
	// TableTaken: another lane publishes the table.
	TableTaken Cause = Cause(checkpoint.TableTaken)
	// AnotherLane: the lane's partition of the checkpoint topic holds the checkpoint of another
	// lane.
	AnotherLane Cause = Cause(checkpoint.AnotherLane)
	// ForeignRows: the outbox holds rows of transactions that this server has not had.
	ForeignRows Cause = Cause(checkpoint.ForeignRows)
	// HangingTransaction: a transaction of the lane is open, and it cannot be found out whether it
	// was committed.
	HangingTransaction Cause = Cause(checkpoint.HangingTransaction)
	// UnfinishedRecovery: a recovery was interrupted; run it again.
	UnfinishedRecovery Cause = Cause(checkpoint.UnfinishedRecovery)
)
