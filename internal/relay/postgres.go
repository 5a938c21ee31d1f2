package relay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/pg"
)

// connect opens a session of its own on the primary. There is no pool: each session has one user and holds state.
func connect(ctx context.Context, from *Config, application string, settings map[string]string) (*pgx.Conn, error) {
	return connectWith(ctx, from, pg.Options{Application: application, Settings: settings})
}

func connectWith(ctx context.Context, from *Config, options pg.Options) (*pgx.Conn, error) {
	url := from.DatabaseURL
	if from.DatabaseURLFunc != nil {
		var err error
		if url, err = from.DatabaseURLFunc(); err != nil {
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
	}
	options.Primary, options.Schema, options.Beside = true, from.schema, stateTable
	conn, err := pg.Connect(ctx, url, options)
	if refused := pg.Refused(err); refused != nil {
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// stateTable is the table whose schema is that of every session of a lane.
const stateTable = "relay_lanes"

// mustSeeAll checks that no policy hides rows of the relay's tables from it.
func mustSeeAll(ctx context.Context, conn *pgx.Conn, lane Lane) error {
	return pg.CheckRowSecurity(ctx, conn, quoteTable(lane.Table), stateTable, "relay_recoveries", "outbox_parked", "outbox_parked_audit")
}

// serverIdentity is which server a session talks to, and since when it runs.
type serverIdentity struct {
	Lineage
	started time.Time
}

// identify reads the identity of the server. A standby is refused: its snapshots say nothing about transactions that run on
// the primary.
func identify(ctx context.Context, conn *pgx.Conn) (serverIdentity, error) {
	var s serverIdentity
	var standby bool
	// Two statements: a standby cannot tell where its write-ahead log is.
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return s, fmt.Errorf("read the identity of the server: %w", err)
	}
	if standby {
		return s, errStandby
	}
	err := conn.QueryRow(ctx, `
SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
       current_database(), (SELECT oid FROM pg_database WHERE datname = current_database()), pg_postmaster_start_time(),
       coalesce(n.nspname, ''), coalesce(n.oid, 0), coalesce(c.oid, 0)
FROM pg_control_system() LEFT JOIN pg_class c ON c.oid = to_regclass('relay_lanes') LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`).
		Scan(&s.SystemIdentifier, &s.Timeline, &s.Database, &s.DatabaseOID, &s.started, &s.LanesSchema, &s.LanesSchemaOID, &s.LanesOID)
	if err != nil {
		return s, fmt.Errorf("read the identity of the server: %w", err)
	}
	return s, nil
}

// mustBe checks that the connection leads to the server want.
func mustBe(ctx context.Context, conn *pgx.Conn, want serverIdentity) error {
	ctx, cancel := context.WithTimeout(ctx, laneQueryTimeout)
	defer cancel()
	got, err := identify(ctx, conn)
	if err != nil {
		return err
	}
	if got.Lineage != want.Lineage || !got.started.Equal(want.started) {
		return errors.New("the address of Postgres led to two different servers; it must lead to the primary only")
	}
	return nil
}

var errStandby = errors.New("this Postgres server is a standby; the relay reads on the primary, and waits for one")

func closeConn(conn *pgx.Conn) { pg.Close(conn) }

// quoteTable quotes "table" or "schema.table".
func quoteTable(table string) string {
	return pgx.Identifier(strings.Split(table, ".")).Sanitize()
}
