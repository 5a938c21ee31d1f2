package relay

import (
	"context"

	"github.com/outbox-relay/relay/internal/lanestore"
)

// agreed are the settings in which replicas should agree.
func agreed(cfg *Config) lanestore.Agreed {
	return lanestore.Agreed{
		Name: cfg.Name, Partitioner: cfg.Partitioner, Poison: string(cfg.Poison), Route: cfg.Route,
		TopicsCreate: cfg.Topics.Create, TopicsPartitions: cfg.Topics.Partitions, TopicsTimeout: cfg.Topics.Patience,
	}
}

// tellSettings says loudly that the lane goes on with other settings than it was run with before.
func (l *lane) tellSettings(row *lanestore.Row) {
	if differences, by := row.NewSettings(); differences != "" {
		l.log.Warn("the lane goes on with other settings than before; where replicas differ, rows go elsewhere after each failover",
			"settings", differences, "before", by, "now", row.Owner())
	}
}

// compare warns once for each owner whose settings differ from those of this process.
func (l *lane) compare(ctx context.Context, row *lanestore.Row, d *lanestore.Disagreement) error {
	owner, differences, err := row.CompareSettings(ctx, d)
	if differences != "" {
		l.log.Warn("the owner of the lane has other settings than this process; where replicas differ, rows go elsewhere after each failover",
			"settings", differences, "owner", owner, "this", row.Owner())
	}
	return err
}
