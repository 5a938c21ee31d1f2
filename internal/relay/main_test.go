package relay

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// server is the one Postgres of a test run. It starts with the first test that needs it; each test has a database of its
// own. It never crashes here, so it need not wait for the disk.
var server struct {
	once      sync.Once
	postgres  *sandbox.Postgres
	err       error
	databases atomic.Int64
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

// runTests ends the server and then looks for goroutines that nobody joined.
func runTests(m *testing.M) int {
	// The tests that run side by side wait for servers most of the time. The command line may say otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if server.postgres != nil {
		if err := server.postgres.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop Postgres:", err)
			code = 1
		}
	}
	http.DefaultClient.CloseIdleConnections() // of a download of Postgres
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines were left behind:", err)
			code = 1
		}
	}
	return code
}

// patience bounds every wait of a test: passing it is a failure, never a way on.
const patience = 45 * time.Second

// newDatabase makes an empty database with the outbox in it and returns its URL.
func newDatabase(t testing.TB) string {
	t.Helper()
	server.once.Do(func() {
		server.postgres, server.err = sandbox.StartPostgres(context.Background(), sandbox.PostgresOptions{
			Version: os.Getenv("RELAY_TEST_POSTGRES_VERSION"),
			Parameters: map[string]string{
				"fsync": "off", "full_page_writes": "off", "max_prepared_transactions": "20", "max_connections": "200",
			},
			Notice: func(line string) { fmt.Fprintln(os.Stderr, line) },
		})
	})
	if server.err != nil {
		t.Fatalf("these tests need a Postgres server: %v", server.err)
	}
	name := fmt.Sprintf("relay_%d", server.databases.Add(1))
	url, err := server.postgres.CreateDatabase(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.postgres.DropDatabase(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	conn := open(t, url)
	for _, migration := range migrations.List() {
		exec(t, conn, migration.Up)
	}
	return url
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
	t.Cleanup(func() { closeConn(conn) })
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
