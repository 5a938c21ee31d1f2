package outboxtest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/pg"
	migrations "github.com/outbox-relay/relay/sql"
)

// limit bounds every statement of a test: passing it is a failure.
const limit = 45 * time.Second

// Database makes an empty database with the outbox in it and returns its URL.
func Database(t testing.TB) string {
	t.Helper()
	return testpg.Database(t, migrations.List())
}

// TB is what testing.TB and rapid.T have in common.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Open connects to a database until the test ends.
func Open(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	// A test that waits for a lock has its schedule wrong.
	config.RuntimeParams["lock_timeout"] = "20s"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pg.Close(conn) })
	return conn
}

// Exec runs a statement, or without arguments a script.
func Exec(t TB, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if len(args) > 0 {
		if _, err := conn.Exec(ctx, statement, args...); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
		return
	}
	if _, err := conn.PgConn().Exec(ctx, statement).ReadAll(); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// Query returns the one value of a statement.
func Query[T any](t TB, conn *pgx.Conn, statement string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	rows, err := conn.Query(ctx, statement, args...)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

// Insert writes an event.
func Insert(t TB, conn *pgx.Conn, key, value string) {
	t.Helper()
	Exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', $1, 'Changed', $2)`,
		key, []byte(value))
}
