package integration

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

// database makes a database of the test's own with every migration applied, and returns its URL. It is dropped when the
// test ends.
func database(t testing.TB) string {
	t.Helper()
	url := emptyDatabase(t)
	migrate(t, url)
	return url
}

// emptyDatabase makes a database of the test's own without any table, and returns its URL. It is dropped when the test ends.
func emptyDatabase(t testing.TB) string {
	t.Helper()
	maintenance, err := shared.maintenanceURL()
	if err != nil {
		t.Fatalf("no Postgres: %v\nset %s to use a server of your own", err, databaseVariable)
	}
	address, err := url.Parse(maintenance)
	if err != nil || !strings.HasPrefix(address.Scheme, "postgres") {
		t.Fatalf("%s must be a URL, such as postgres://user:password@127.0.0.1:5432/postgres", databaseVariable)
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	execute(t, maintenance, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the test's database was %s", name)
		}
		execute(t, maintenance, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	})
	address.Path = "/" + name
	return address.String()
}

// ownPostgres starts a server for this test alone, to be killed, with a database that has every migration applied.
func ownPostgres(t testing.TB) (server *sandbox.Postgres, databaseURL string) {
	t.Helper()
	server, err := sandbox.StartPostgres(t.Context(), postgresOptions())
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
	migrate(t, databaseURL)
	return server, databaseURL
}

// migrate runs the migrations one after the other, as psql would.
func migrate(t testing.TB, url string) {
	t.Helper()
	for _, migration := range migrations.List() {
		execute(t, url, migration.Up)
	}
}

// migrateInbox brings the tables of the inbox into a database, as psql would.
func migrateInbox(t testing.TB, url string) {
	t.Helper()
	for _, migration := range migrations.Inbox() {
		execute(t, url, migration.Up)
	}
}

// inboxDatabase makes a database of the test's own with the tables of the inbox alone, and returns its URL. It is dropped when
// the test ends.
func inboxDatabase(t testing.TB) string {
	t.Helper()
	url := emptyDatabase(t)
	migrateInbox(t, url)
	return url
}

// execute runs statements on a connection of its own. It works in a cleanup, when the test's context has ended.
func execute(t testing.TB, url, statements string) {
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

// connect opens a connection that is closed when the test ends.
func connect(t testing.TB, url string) *pgx.Conn {
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
