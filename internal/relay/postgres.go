package relay

import (
	"time"

	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
)

// sessions returns what opens the sessions of the lane that the configuration is for.
func (c *Config) sessions() *pg.Database {
	if c.database == nil {
		c.database = &pg.Database{URL: c.url, Beside: lanestore.LanesTable}
	}
	return c.database
}

func (c *Config) url() (string, error) {
	if c.DatabaseURLFunc != nil {
		return c.DatabaseURLFunc()
	}
	return c.DatabaseURL, nil
}

// rowOptions say whose row a lane is run by.
func (c *Config) rowOptions(lane Lane, owner string) lanestore.Options {
	return lanestore.Options{
		Lane: lane.Name, Table: lane.Table, Owner: owner, Settings: agreed(c).Settings(),
		WorkTimeout: c.workTimeout(), Database: c.sessions(),
		Parked: parking.NewRows(lane.Name, lane.Table),
	}
}

func laneNames(lanes []Lane) []string {
	names := make([]string, len(lanes))
	for i, lane := range lanes {
		names[i] = lane.Name
	}
	return names
}

// workTimeout bounds what a batch writes about parked rows.
func (c *Config) workTimeout() time.Duration { return min(pg.StatementTimeout, c.TransactionTimeout/3) }
