package relay

import (
	"context"
	"fmt"

	"github.com/outbox-relay/relay/internal/lanestore"
)

// agreeing are the settings in which replicas should agree.
func agreeing(cfg *Config) lanestore.Settings {
	return lanestore.Settings{
		"name":              cfg.Name,
		"partitioner":       cfg.Partitioner,
		"poison":            string(cfg.Poison),
		"route":             cfg.Route,
		"topics.create":     fmt.Sprint(cfg.Topics.Create),
		"topics.partitions": fmt.Sprint(cfg.Topics.Partitions),
		"topics.patience":   cfg.Topics.Patience.String(),
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
