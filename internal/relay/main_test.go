package relay

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/pg"
	migrations "github.com/outbox-relay/relay/sql"
)

// The tests that run side by side wait for servers most of the time.
func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{Parallel: 8}) }

// patience bounds every wait of a test: passing it is a failure, never a way on.
const patience = 45 * time.Second

// newDatabase makes an empty database with the outbox in it and returns its URL.
func newDatabase(t testing.TB) string {
	t.Helper()
	return testpg.Database(t, migrations.List())
}

// failer is what testing.TB and rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// open connects to a database until the test ends.
func open(t testing.TB, url string) *pgx.Conn {
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

// exec runs a statement, or without arguments a script.
func exec(t failer, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// query returns the one value of a statement.
func query[T any](t failer, conn *pgx.Conn, statement string, args ...any) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
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

// insert writes an event.
func insert(t failer, conn *pgx.Conn, key, value string) {
	t.Helper()
	exec(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', $1, 'Changed', $2)`,
		key, []byte(value))
}

// outboxMigration is the text of the migration that makes the outbox.
func outboxMigration() string { return migrations.List()[0].Up }
