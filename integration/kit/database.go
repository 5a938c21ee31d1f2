package kit

import (
	"context"
	"errors"
	"net/url"
	"strings"
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
	url := EmptyDatabase(t)
	Migrate(t, url)
	return url
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
	maintenance := MaintenanceURL(t)
	address, err := url.Parse(maintenance)
	if err != nil || !strings.HasPrefix(address.Scheme, "postgres") {
		t.Fatalf("%s must be a URL, such as postgres://user:password@127.0.0.1:5432/postgres", databaseVariable)
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	Execute(t, maintenance, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the test's database was %s", name)
		}
		Execute(t, maintenance, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	address.Path = "/" + name
	return address.String()
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

// InboxDatabase makes a database of the test's own with the tables of the inbox alone, and returns
// its URL. It is dropped when the test ends.
func InboxDatabase(t testing.TB) string {
	t.Helper()
	url := EmptyDatabase(t)
	MigrateInbox(t, url)
	return url
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
