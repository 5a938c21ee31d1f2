package checkpoint

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
	Key         = "checkpoint"
	sentinelKey = "sentinel"
)

// Version is raised when the meaning of a field changes; an unknown version of the last checkpoint
// halts the lane.
const Version = 1

// Record is the record that rides in every Kafka transaction beside the rows: the decision that
// they are published.
type Record struct {
	Version int    `json:"version"`
	Lane    string `json:"lane"`
	Seq     int64  `json:"seq"`
	position.Position
	Identity ClusterIdentity `json:"cluster_identity"`
	// Table is the one that the rows were read from; nil if a version wrote it that did not say
	// so.
	Table *pg.Table `json:"table,omitempty"`
	// Owner and OwnerEpoch intended the batch. With Seq they name it: a number is used again after
	// an intent was withdrawn.
	Owner      string `json:"owner"`
	OwnerEpoch int64  `json:"owner_epoch"`
	// Transactions are the last ones of the lane. A checkpoint of an earlier version has none.
	Transactions *Transactions `json:"transactions,omitempty"`
	// Recovery is set where relay recover wrote the checkpoint.
	Recovery *RecoveryNote `json:"recovery,omitempty"`

	// Offset and Written are those of the record that was read.
	Offset  int64     `json:"-"`
	Written time.Time `json:"-"`
	// Unreadable is set if this only represents a checkpoint that cannot be read.
	Unreadable bool `json:"-"`
}

// RecoveryNote tells who settled a contradiction, how and why. The same is in the table
// relay_recoveries.
type RecoveryNote struct {
	// Choice is the choice that was made.
	Choice string `json:"choice"`
	// Cause is the kind of the contradiction.
	Cause Cause `json:"cause"`
	// Who is the person, process and host that ran the command, Why what they gave as the reason.
	Who string `json:"who"`
	Why string `json:"why"`
	// At is when.
	At time.Time `json:"at"`
}

// Encode makes the value of the record.
func (c Record) Encode() ([]byte, error) {
	value, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return value, nil
}

// Decode reads the value of the record.
func Decode(value []byte) (Record, error) {
	var c Record
	if err := json.Unmarshal(value, &c); err != nil {
		return Record{}, fmt.Errorf("decode checkpoint: %w", err)
	}
	if c.Version != Version {
		return Record{}, fmt.Errorf("decode checkpoint: version %d, and this relay knows only version %d",
			c.Version, Version)
	}
	if c.Seq < 0 || c.From.IsZero() {
		return Record{}, fmt.Errorf("decode checkpoint: seq %d with from %q is not a checkpoint", c.Seq, c.From)
	}
	if !c.Transactions.valid() {
		return Record{}, errors.New("decode checkpoint: its list of transactions cannot be read")
	}
	return c, nil
}
