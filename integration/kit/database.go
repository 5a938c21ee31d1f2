package kit

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// Database makes a database of the test's own with every migration applied, and returns its URL. It
// is dropped when the test ends.
func Database(t testing.TB) string {
	t.Helper()
	return databaseFrom(t, template(t, "outbox", Migrate))
}

// InboxDatabase makes a database of the test's own with the tables of the inbox alone, and returns
// its URL. It is dropped when the test ends.
func InboxDatabase(t testing.TB) string {
	t.Helper()
	return databaseFrom(t, template(t, "inbox", MigrateInbox))
}

// templates are the databases that tests copy: that is cheaper than to migrate each.
var templates struct {
	mu    sync.Mutex
	names map[string]string // by what is in them
}

// template returns the name of a database that was migrated once for the run.
func template(t testing.TB, what string, migrate func(testing.TB, string)) string {
	t.Helper()
	templates.mu.Lock()
	defer templates.mu.Unlock()
	if name := templates.names[what]; name != "" {
		return name
	}
	maintenance := MaintenanceURL(t)
	name := uniqueDatabase()
	Execute(t, maintenance, "CREATE DATABASE "+name)
	migrate(t, onServer(t, maintenance, name))
	if templates.names == nil {
		templates.names = make(map[string]string)
	}
	templates.names[what] = name
	if os.Getenv(databaseVariable) != "" { // otherwise it goes with the server
		onStop(func() error { return drop(maintenance, name) })
	}
	return name
}

func uniqueDatabase() string { return "test_" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// onServer is the URL of another database of the same server.
func onServer(t testing.TB, maintenance, name string) string {
	t.Helper()
	address, err := url.Parse(maintenance)
	if err != nil || !strings.HasPrefix(address.Scheme, "postgres") {
		t.Fatalf("%s must be a URL, such as postgres://user:password@127.0.0.1:5432/postgres", databaseVariable)
	}
	address.Path = "/" + name
	return address.String()
}

func drop(maintenance, name string) error {
	return once(maintenance, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
}

// once runs a statement in a session by itself, also when the tests have ended.
func once(databaseURL, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(ctx))
}

// RoleEndsWithTheRun drops a role when the tests of the package have ended. It stays on a server
// that ends with them.
func RoleEndsWithTheRun(t testing.TB, role string) {
	t.Helper()
	if os.Getenv(databaseVariable) != "" {
		maintenance := MaintenanceURL(t)
		onStop(func() error { return once(maintenance, "DROP ROLE IF EXISTS "+role) })
	}
}

// MaintenanceURL is that of a database of the server of this run, from which tests create their
// own.
func MaintenanceURL(t testing.TB) string {
	t.Helper()
	url, err := sharedPostgres()
	if err != nil {
		t.Fatalf("no Postgres: %v\nset %s to use a server of your own", err, databaseVariable)
	}
	return url
}

// EmptyDatabase makes a database of the test's own without any table, and returns its URL. It is
// dropped when the test ends.
func EmptyDatabase(t testing.TB) string {
	t.Helper()
	return databaseFrom(t, "template1")
}

func databaseFrom(t testing.TB, template string) string {
	t.Helper()
	maintenance, name := MaintenanceURL(t), uniqueDatabase()
	databaseURL := onServer(t, maintenance, name)
	Execute(t, maintenance, "CREATE DATABASE "+name+" TEMPLATE "+template)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the test's database was %s", name)
		}
		if err := drop(maintenance, name); err != nil {
			t.Error(err)
		}
	})
	return databaseURL
}

// OwnPostgres starts a server for this test alone, to be killed, with a database that has every
// migration applied.
func OwnPostgres(t testing.TB) (server *sandbox.Postgres, databaseURL string) {
	t.Helper()
	server, err := sandbox.StartPostgres(t.Context(), PostgresOptions())
	if err != nil {
		t.Fatalf("no Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	databaseURL, err = server.CreateDatabase(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	Migrate(t, databaseURL)
	return server, databaseURL
}

// Migrate runs the migrations one after the other, as psql would.
func Migrate(t testing.TB, url string) {
	t.Helper()
	for _, migration := range migrations.List() {
		Execute(t, url, migration.Up)
	}
}

// MigrateInbox brings the tables of the inbox into a database, as psql would.
func MigrateInbox(t testing.TB, url string) {
	t.Helper()
	for _, migration := range migrations.Inbox() {
		Execute(t, url, migration.Up)
	}
}

// Execute runs statements on its own connection. It works in a cleanup, when the test's context has
// ended.
func Execute(t testing.TB, url, statements string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.PgConn().Exec(ctx, statements).ReadAll()
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		t.Fatalf("execute %.60q: %v", statements, err)
	}
}

// Connect opens a connection that is closed when the test ends.
func Connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil && !conn.IsClosed() {
			t.Error(err)
		}
	})
	return conn
}

// Commit commits a transaction.
func Commit(t testing.TB, tx pgx.Tx) {
	t.Helper()
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ConnectBriefly connects to a database that may be away.
func ConnectBriefly(ctx context.Context, url string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return pgx.Connect(ctx, url)
}
