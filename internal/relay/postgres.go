package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sessionSettings make every session of the relay durable and short to miss. synchronous_commit must be on: the intent is
// the barrier behind which a row that was seen cannot vanish in a crash. The keepalives let the server notice within about
// ten seconds that this host is gone, and free the lane's lock.
var sessionSettings = map[string]string{
	"synchronous_commit":      "on",
	"statement_timeout":       "0", // the relay's own time limits apply, not those of a role
	"lock_timeout":            "0",
	"idle_session_timeout":    "0",
	"tcp_keepalives_idle":     "5",
	"tcp_keepalives_interval": "2",
	"tcp_keepalives_count":    "3",
}

const connectTimeout = 10 * time.Second

// connect opens a session of its own. There is no pool: each session has one user and holds state.
func connect(ctx context.Context, from *Config, application string, settings map[string]string) (*pgx.Conn, error) {
	url := from.DatabaseURL
	if from.DatabaseURLFunc != nil {
		var err error
		if url, err = from.DatabaseURLFunc(); err != nil {
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if cfg.ValidateConnect == nil {
		// Of several hosts the primary is taken, whichever it is now.
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	cfg.DialFunc = (&net.Dialer{Control: boundUnacknowledged, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3,
	}}).DialContext
	maps.Copy(cfg.RuntimeParams, sessionSettings)
	maps.Copy(cfg.RuntimeParams, settings)
	cfg.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
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
       current_database(), (SELECT oid FROM pg_database WHERE datname = current_database()), pg_postmaster_start_time()
FROM pg_control_system()`).Scan(&s.SystemIdentifier, &s.Timeline, &s.Database, &s.DatabaseOID, &s.started)
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

// closeConn ends a session without waiting long for a server that may be gone.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// The session is over either way: the error of a goodbye tells nothing.
	_ = conn.Close(ctx)
}

// quoteTable quotes "table" or "schema.table".
func quoteTable(table string) string {
	return pgx.Identifier(strings.Split(table, ".")).Sanitize()
}

// databaseName is the database that url names, which is the default name of the deployment.
func databaseName(url string) (string, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return "", err
	}
	if cfg.Database != "" {
		return cfg.Database, nil
	}
	return cfg.User, nil
}
