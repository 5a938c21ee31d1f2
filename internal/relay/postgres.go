package relay

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
)

// sessions returns what opens the sessions of the lane that the configuration is for.
func (c *Config) sessions() *pg.Database {
	if c.database == nil {
		c.database = &pg.Database{URL: c.url, Beside: stateTable}
	}
	return c.database
}

func (c *Config) url() (string, error) {
	if c.DatabaseURLFunc != nil {
		return c.DatabaseURLFunc()
	}
	return c.DatabaseURL, nil
}

// stateTable is the table whose schema is that of every session of a lane.
const stateTable = "relay_lanes"

// checkSeesAll checks that no policy hides rows of the relay's tables from it.
func checkSeesAll(ctx context.Context, conn *pgx.Conn, lane Lane) error {
	return pg.CheckRowSecurity(ctx, conn, pg.QuoteTable(lane.Table), stateTable, "relay_recoveries", "outbox_parked", "outbox_parked_audit")
}
