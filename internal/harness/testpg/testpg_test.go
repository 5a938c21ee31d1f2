package testpg_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

func TestMain(m *testing.M) {
	testpg.Main(m, testpg.Options{Parameters: map[string]string{"work_mem": "5MB"}})
}

func value(t *testing.T, conn *pgx.Conn, query string) (s string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&s); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return s
}

func TestEachTestHasADatabaseThatIsDroppedWithTheSessionsInIt(t *testing.T) {
	const count = `SELECT count(*)::text FROM pg_database WHERE datname LIKE 'test_%'`
	admin := testpg.Connect(t, testpg.URL(t))
	t.Run("databases", func(t *testing.T) {
		first, second := testpg.Database(t), testpg.Database(t, migrations.List(), migrations.Inbox())
		if got := value(t, admin, count); got != "2" {
			t.Errorf("%s databases, want 2", got)
		}
		if got := value(t, testpg.Connect(t, first), `SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'`); got != "0" {
			t.Errorf("an empty database has %s tables", got)
		}
		if got := value(t, testpg.Connect(t, second), `SELECT concat(to_regclass('outbox'), ' ', to_regclass('inbox'))`); got != "outbox inbox" {
			t.Errorf("of the tables outbox and inbox there are %q", got)
		}
		left, err := pgx.Connect(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		testpg.Exec(t, left, "BEGIN; SELECT 1") // and is not closed before the database is dropped
	})
	if got := value(t, admin, count); got != "0" {
		t.Errorf("%s databases are left", got)
	}
}

func TestParametersOfAPackageWin(t *testing.T) {
	if got := value(t, testpg.Connect(t, testpg.Database(t)), `SELECT concat(current_setting('fsync'), ' ', current_setting('work_mem'))`); got != "off 5MB" {
		t.Errorf("fsync and work_mem are %s, want off 5MB", got)
	}
}

func TestAnotherLogin(t *testing.T) {
	databaseURL := testpg.Database(t)
	testpg.Exec(t, testpg.Connect(t, databaseURL), "CREATE ROLE ada LOGIN PASSWORD 'se:cr/et'")
	if got := value(t, testpg.Connect(t, testpg.As(t, databaseURL, "ada", "se:cr/et")), `SELECT current_user::text`); got != "ada" {
		t.Errorf("the login is %s, want ada", got)
	}
}
