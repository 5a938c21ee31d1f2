package relay

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/harness/testpg"
)

// The tests that run side by side wait for servers most of the time.
func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{Parallel: 8}) }

// patience bounds every wait of a test: passing it is a failure, never a result.
const patience = 45 * time.Second

// newDatabase makes an empty database with the outbox in it and returns its URL.
func newDatabase(t testing.TB) string {
	t.Helper()
	return outboxtest.Database(t)
}

// failer is what testing.TB and rapid.T have in common.
type failer = outboxtest.TB

// open connects to a database until the test ends.
func open(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	return outboxtest.Open(t, url)
}

// exec runs a statement, or without arguments a script.
func exec(t failer, conn *pgx.Conn, statement string, args ...any) {
	t.Helper()
	outboxtest.Exec(t, conn, statement, args...)
}

// query returns the one value of a statement.
func query[T any](t failer, conn *pgx.Conn, statement string, args ...any) T {
	t.Helper()
	return outboxtest.Query[T](t, conn, statement, args...)
}

// insert writes an event.
func insert(t failer, conn *pgx.Conn, key, value string) {
	t.Helper()
	outboxtest.Insert(t, conn, key, value)
}
