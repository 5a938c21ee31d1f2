package pg

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Options say what a session is for. The zero value works.
type Options struct {
	// Application is the application_name of the session. Defaults to that of the connection
	// string.
	Application string

	// Settings are the session's own: they are added to the pinned ones or replace them. Each is
	// read back, so a value must be written as Postgres writes it: 100ms, not 0.1s. Defaults to
	// none.
	Settings map[string]string

	// Schema is the one in which names without a schema are found, behind pg_catalog and before
	// pg_temp. Defaults to the first schema of the search_path that holds the relation Beside, and
	// without one to the first that exists. So the search_path is looked at once, when the session
	// is opened, and never decides which table a later statement means.
	Schema string

	// Beside is a relation whose schema is that of the session. Defaults to none.
	Beside string

	// Primary refuses standbys, unless target_session_attrs in the connection string says what to
	// take. Of several hosts the primary is taken, whichever it is now. Defaults to false.
	Primary bool

	// ReadOnly refuses writes on the session. Defaults to false.
	ReadOnly bool

	// AnyEncoding takes databases whose encoding is not UTF8. Defaults to false.
	AnyEncoding bool
}

// connectTimeout bounds the opening of a session whose connection string has no connect_timeout.
const connectTimeout = 10 * time.Second

// Connect opens a session. There is no pool: each session has one user and may hold
// state.
func Connect(ctx context.Context, address string, options Options) (*pgx.Conn, error) {
	cfg, err := Config(address, options)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg)
}

// Config returns the configuration of sessions that are opened otherwise, such as by a pool. Each
// of them is checked as it is opened. Errors may hold the connection string.
func Config(address string, options Options) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	if options.Primary && cfg.ValidateConnect == nil {
		cfg.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	cfg.DialFunc = (&net.Dialer{Control: boundUnacknowledged, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3,
	}}).DialContext
	settings := started(options.Settings)
	replace(cfg.RuntimeParams, keepalives)
	replace(cfg.RuntimeParams, settings)
	if options.Application != "" {
		replace(cfg.RuntimeParams, map[string]string{"application_name": options.Application})
	}
	limit := cfg.ConnectTimeout
	cfg.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		return prepare(ctx, conn, options, settings)
	}
	return cfg, nil
}

// Close ends a session without waiting long for a server that may be gone.
func Close(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	// The session is over either way: the error of a goodbye tells nothing.
	_ = conn.Close(ctx)
}

// Schema returns the schema in which the session finds names without one.
func Schema(ctx context.Context, conn *pgx.Conn) (string, error) {
	var schema *string
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.current_schema()`).Scan(&schema); err != nil {
		return "", fmt.Errorf("read the schema of the session: %w", err)
	}
	if schema == nil {
		return "", nil
	}
	return *schema, nil
}
