package checkpoint

import (
	"fmt"
	"time"
)

// HaltedRetry is how often a lane that has halted looks whether a person has fixed the cause.
const HaltedRetry = 15 * time.Second

// HaltError stops a lane until a human has acted: going on would be a guess.
type HaltError struct {
	// Cause is the kind of the contradiction; empty for a row that cannot be sent, and for what is
	// fixed elsewhere.
	Cause Cause
	// Diagnosis says what contradicts what.
	Diagnosis string
	// Try says what to do.
	Try string
}

// Error returns the diagnosis and what to do.
func (e *HaltError) Error() string { return e.Diagnosis + "; " + e.Try }

// OfSettings reports whether other settings fix the fault, those of another process perhaps. Then
// the lane's lock is given back.
func (e *HaltError) OfSettings() bool {
	return e.Cause == AnotherTable || e.Cause == TableTaken || e.Cause == AnotherDeployment
}

// Halt makes a HaltError for what no choice of relay recover settles.
func Halt(try, format string, args ...any) *HaltError {
	return &HaltError{Diagnosis: fmt.Sprintf(format, args...), Try: try}
}

// Cause is the kind of a contradiction, for programs to tell apart.
type Cause string

// The kinds of contradictions.
const (
	// CheckpointLost: Postgres knows of batches, and the checkpoint topic holds nothing.
	CheckpointLost Cause = "checkpoint-lost"
	// CheckpointBehind: the checkpoint topic has lost its last records.
	CheckpointBehind Cause = "checkpoint-behind"
	// CheckpointUnreadable: the last checkpoint is that of a newer relay, or none that a relay
	// wrote.
	CheckpointUnreadable Cause = "checkpoint-unreadable"
	// CheckpointPolicy: the brokers would delete the checkpoint.
	CheckpointPolicy Cause = "checkpoint-policy"
	// DatabaseBehind: the database, or relay_lanes alone, has been set back.
	DatabaseBehind Cause = "database-behind"
	// RowRemoved: the lane's row has gone.
	RowRemoved Cause = "row-removed"
	// AnotherBatch: both logs name a batch of one number, and it is not the same batch.
	AnotherBatch Cause = "another-batch"
	// AnotherDatabase: the lane belongs to another database or server.
	AnotherDatabase Cause = "another-database"
	// EarlierTimeline: the lane has gone on on a server that was promoted, and this is the one from
	// before.
	EarlierTimeline Cause = "earlier-timeline"
	// AnotherCluster: the lane belongs to another Kafka cluster.
	AnotherCluster Cause = "another-cluster"
	// AnotherDeployment: the lane belongs to the relays of another schema of this database.
	AnotherDeployment Cause = "another-deployment"
	// AnotherTable: the lane belongs to another table than the one that its setting leads to.
	AnotherTable Cause = "another-table"
	// TableTaken: another lane publishes the table.
	TableTaken Cause = "table-taken"
	// AnotherLane: the partition holds the checkpoint of another lane.
	AnotherLane Cause = "another-lane"
	// ForeignRows: the outbox holds rows of transactions that this server has not had.
	ForeignRows Cause = "foreign-rows"
	// HangingTransaction: a partition holds a transaction of the lane open, and it is unknown
	// whether it was committed.
	HangingTransaction Cause = "hanging-transaction"
	// UnfinishedRecovery: relay recover was cut short.
	UnfinishedRecovery Cause = "unfinished-recovery"
)

// Contradiction makes a HaltError of a kind that programs can tell apart.
func Contradiction(cause Cause, try, format string, args ...any) *HaltError {
	return &HaltError{Cause: cause, Diagnosis: fmt.Sprintf(format, args...), Try: try}
}

// RecoverHint is what to do about a contradiction, first what may make it unnecessary.
func RecoverHint(lane, before string) string {
	return before + "relay recover " + lane + " shows what each choice would publish again or skip; nothing is published until you choose"
}
