package checkpoint

import (
	"github.com/outbox-relay/relay/internal/pg"
)

// ClusterIdentity identifies the two logs that a lane joins. A lane that finds another identity
// than the one it was started with halts: its checkpoint says nothing about the rows of another
// server.
type ClusterIdentity struct {
	pg.Identity
	// ClusterID of the Kafka cluster.
	ClusterID string `json:"cluster_id"`
}
