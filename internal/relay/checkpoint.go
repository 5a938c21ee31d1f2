package relay

import (
	"encoding/json"
	"fmt"
)

// The keys on the checkpoint topic. They differ so that compaction keeps the last of each.
const (
	checkpointKey = "checkpoint"
	sentinelKey   = "sentinel"
)

// checkpointVersion is raised when the meaning of a field changes; an unknown version halts the lane.
const checkpointVersion = 1

// Checkpoint is the record that rides in every Kafka transaction beside the rows: the decision that they are published.
type Checkpoint struct {
	Version int    `json:"version"`
	Lane    string `json:"lane"`
	Seq     int64  `json:"seq"`
	Progress
	Lineage Lineage `json:"lineage"`
	// Owner and OwnerEpoch tell a reader of the topic who wrote it.
	Owner      string `json:"owner"`
	OwnerEpoch int64  `json:"owner_epoch"`
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
	return c, nil
}

// Lineage identifies the two logs that a lane joins. A lane that finds another lineage than the one it was started with
// halts: its checkpoint says nothing about the rows of another server.
type Lineage struct {
	// SystemIdentifier of the Postgres cluster, made by initdb and kept by physical copies.
	SystemIdentifier string `json:"system_identifier"`
	// Timeline of the write-ahead log; a promotion raises it.
	Timeline int64 `json:"timeline"`
	// Database is the name, DatabaseOID the object id: a restored dump has another one.
	Database    string `json:"database"`
	DatabaseOID uint32 `json:"database_oid"`
	// ClusterID of the Kafka cluster.
	ClusterID string `json:"cluster_id"`
}

// differs explains why a lane with lineage l cannot go on under live; it is empty where it can. A raised timeline is a
// promotion: whether the standby lagged is shown by the sequence numbers.
func (l Lineage) differs(live Lineage) string {
	switch {
	case l.SystemIdentifier != live.SystemIdentifier:
		return fmt.Sprintf("it was written for the Postgres cluster with system identifier %s, and this is %s",
			l.SystemIdentifier, live.SystemIdentifier)
	case l.DatabaseOID != live.DatabaseOID:
		return fmt.Sprintf("it was written for database %s (oid %d), and this is %s (oid %d)",
			l.Database, l.DatabaseOID, live.Database, live.DatabaseOID)
	case l.ClusterID != live.ClusterID:
		return fmt.Sprintf("it was written for the Kafka cluster %s, and this is %s", l.ClusterID, live.ClusterID)
	case l.Timeline > live.Timeline:
		return fmt.Sprintf("it was written on timeline %d, and this server is on the earlier timeline %d", l.Timeline, live.Timeline)
	}
	return ""
}
