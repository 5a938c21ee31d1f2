package relay

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// The keys on the checkpoint topic. They differ so that compaction keeps the last of each.
const (
	checkpointKey = "checkpoint"
	sentinelKey   = "sentinel"
)

// checkpointVersion is raised when the meaning of a field changes; an unknown version of the last checkpoint halts the lane.
const checkpointVersion = 1

// Checkpoint is the record that rides in every Kafka transaction beside the rows: the decision that they are published.
type Checkpoint struct {
	Version int    `json:"version"`
	Lane    string `json:"lane"`
	Seq     int64  `json:"seq"`
	position.Position
	Lineage Lineage `json:"lineage"`
	// Table is the one that the rows were read from; nil where a version wrote it that did not say so.
	Table *pg.Table `json:"table,omitempty"`
	// Owner and OwnerEpoch intended the batch. With Seq they name it: a number is used again after an intent was withdrawn.
	Owner      string `json:"owner"`
	OwnerEpoch int64  `json:"owner_epoch"`
	// Transactions are the last ones of the lane. A checkpoint of an earlier version has none.
	Transactions *LastTransactions `json:"transactions,omitempty"`
	// Recovery is set where relay recover wrote the checkpoint.
	Recovery *RecoveryNote `json:"recovery,omitempty"`

	offset  int64 // where it was read
	written time.Time
	// unreadable is set where this only stands for a checkpoint that cannot be read.
	unreadable bool
}

// RecoveryNote tells who settled a contradiction, how and why. The same stands in the table relay_recoveries.
type RecoveryNote struct {
	// Choice is the way on that was chosen.
	Choice Choice `json:"choice"`
	// Cause is the kind of the contradiction.
	Cause Cause `json:"cause"`
	// Who is the person, process and host that ran the command, Why what they gave as the reason.
	Who string `json:"who"`
	Why string `json:"why"`
	// At is when.
	At time.Time `json:"at"`
}

func (c Checkpoint) encode() ([]byte, error) { return json.Marshal(c) }

func decodeCheckpoint(value []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := json.Unmarshal(value, &c); err != nil {
		return Checkpoint{}, fmt.Errorf("decode checkpoint: %w", err)
	}
	if c.Version != checkpointVersion {
		return Checkpoint{}, fmt.Errorf("decode checkpoint: version %d, and this relay knows only version %d",
			c.Version, checkpointVersion)
	}
	if c.Seq < 0 || c.From.IsZero() {
		return Checkpoint{}, fmt.Errorf("decode checkpoint: seq %d with from %q is not a checkpoint", c.Seq, c.From)
	}
	if !c.Transactions.valid() {
		return Checkpoint{}, errors.New("decode checkpoint: its list of transactions cannot be read")
	}
	return c, nil
}

// Lineage identifies the two logs that a lane joins. A lane that finds another lineage than the one it was started with
// halts: its checkpoint says nothing about the rows of another server.
type Lineage struct {
	pg.Identity
	// ClusterID of the Kafka cluster.
	ClusterID string `json:"cluster_id"`
}
