package schema

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// granted lists who but the owner may do what on the tables, sequences and functions whose names
// match, in the form of Postgres.
func granted(t *testing.T, conn *pgx.Conn, names string) string {
	t.Helper()
	var list string
	err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(entry, E'\n' ORDER BY entry), 'nothing') FROM (
		SELECT relname || ' ' || item FROM pg_class, unnest(relacl) item, aclexplode(ARRAY[item])
		 WHERE relnamespace = 'public'::regnamespace AND relname ~ $1 AND grantee <> relowner
		UNION SELECT relname || '.' || attname || ' ' || item FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid, unnest(attacl) item
		 WHERE relnamespace = 'public'::regnamespace AND relname ~ $1
		UNION SELECT proname || ' ' || item FROM pg_proc, unnest(proacl) item, aclexplode(ARRAY[item])
		 WHERE pronamespace = 'public'::regnamespace AND proname ~ $1 AND grantee <> proowner) list (entry)`, names).Scan(&list)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

const (
	// generous are default privileges that give everything new to a role and to PUBLIC.
	generous = `ALTER DEFAULT PRIVILEGES GRANT ALL ON %s TO stranger, PUBLIC;`
	// partitionsAndFunctions are what only the owner may use, before roles.sql has given
	// anything.
	partitionsAndFunctions = `^outbox_(p\d+|overflow|before|partition|private|add|empty|drop)`
)

// What the layout makes has the privileges that were recorded, and none that Postgres gives to new
// objects by default.
func TestTheLayoutKeepsPrivilegesAndTakesNoDefaultOnes(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, `CREATE ROLE stranger; CREATE ROLE lender; CREATE ROLE borrower; CREATE ROLE watcher;
		GRANT INSERT (aggregate_id, type) ON outbox TO lender; GRANT SELECT ON outbox TO lender WITH GRANT OPTION;
		GRANT SELECT ON SEQUENCE outbox_id_seq TO watcher;
		SET ROLE lender; GRANT SELECT ON outbox TO borrower; RESET ROLE;
		INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
	for _, objects := range []string{"TABLES", "SEQUENCES", "FUNCTIONS"} {
		execute(t, conn, strings.ReplaceAll(generous, "%s", objects))
	}
	const recorded = `^outbox(_id_seq)?$`
	// Who granted is not kept: the owner has.
	before := strings.ReplaceAll(granted(t, conn, recorded), "borrower=r/lender", "borrower=r/postgres")
	if strings.Count(before, "\n") != 4 {
		t.Fatalf("recorded:\n%s", before)
	}
	for range 2 {
		for _, want := range []Layout{Partitioned, Plain} {
			if err := m.Arrange(t.Context(), want, 1000, func(Migration) {}); err != nil {
				t.Fatal(err)
			}
			if want == Partitioned {
				execute(t, conn, "SELECT outbox_add_partition(8) FROM generate_series(1, 5)")
				if got := granted(t, conn, partitionsAndFunctions); got != "nothing" {
					t.Errorf("others may use what the partitioned layout has made:\n%s", got)
				}
			}
			if got := granted(t, conn, recorded); got != before {
				t.Errorf("layout %s: privileges\n%s\nwant\n%s", want, got, before)
			}
		}
		// The second round begins with an empty table, which is replaced.
		execute(t, conn, "TRUNCATE outbox")
	}
}

// Ids that outrun the partitions make an ordinary partition of the last one, and a new last one.
func TestAnOverflowThatIsMadeAnewTakesNoDefaultPrivileges(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := m.Arrange(t.Context(), Partitioned, 1000, func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
	execute(t, conn, `SELECT setval('outbox_id_seq', 1000000); INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
	for range 3 {
		execute(t, conn, "SELECT outbox_add_partition()")
	}
	var empty bool
	if err := conn.QueryRow(t.Context(), "SELECT NOT EXISTS (SELECT FROM outbox_overflow)").Scan(&empty); err != nil || !empty {
		t.Errorf("the row is still in outbox_overflow (%v)", err)
	}
	if got := granted(t, conn, partitionsAndFunctions); got != "nothing" {
		t.Errorf("others may use\n%s", got)
	}
}

func TestNewWeeksOfTheInboxTakeNoDefaultPrivileges(t *testing.T) {
	_, conn := emptyDatabase(t)
	execute(t, conn, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO pg_monitor")
	for _, m := range Inbox.Migrations() {
		execute(t, conn, m.Up)
	}
	if got := granted(t, conn, `^inbox_(\d{8}|add_weeks|drop_weeks|empty_week|retain|delete_marks|delete_started|estimate)$`); got != "nothing" {
		t.Errorf("others may use\n%s", got)
	}
}

// What a change of the layout would drop without a word is refused, there and back, and nothing
// changes.
func TestALayoutThatWouldDropRowLevelSecurityIsRefused(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []Layout{Partitioned, Plain} {
		for set, reset := range map[string]string{
			"ALTER TABLE outbox ENABLE ROW LEVEL SECURITY":                                                 "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY",
			"ALTER TABLE outbox FORCE ROW LEVEL SECURITY":                                                  "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY",
			"CREATE POLICY mine ON outbox USING (true)":                                                    "DROP POLICY mine ON outbox",
			"CREATE PUBLICATION feed FOR TABLE outbox":                                                     "DROP PUBLICATION feed",
			"CREATE TABLE follower (id bigint REFERENCES outbox)":                                          "DROP TABLE follower",
			"CREATE VIEW waiting AS SELECT id FROM outbox":                                                 "DROP VIEW waiting",
			"CREATE TRIGGER told AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_refuse_row()": "DROP TRIGGER told ON outbox",
		} {
			execute(t, conn, set)
			err := m.Arrange(t.Context(), want, 1000, func(Migration) {})
			if err == nil || !strings.Contains(err.Error(), "row-level security") {
				t.Errorf("to %s with %s: got %v", want, set, err)
			}
			execute(t, conn, reset)
		}
		if err := m.Arrange(t.Context(), want, 1000, func(Migration) {}); err != nil {
			t.Errorf("to %s without them: %v", want, err)
		}
	}
}

// The roles separate kinds of work and not services, as docs/security.md and roles.sql say; the
// right to connect separates databases.
func TestADatabaseIsOneDomainOfTrust(t *testing.T) {
	databaseURL, owner := everything(t)
	consumer := as(t, databaseURL, owner, "billing_service", "inbox_consumer")
	execute(t, owner, "SELECT inbox_accept('reports', 's', '1')")
	execute(t, consumer, "SET search_path = "+oddSchema)
	execute(t, consumer, "SELECT inbox_retain('reports', '1 second'); DELETE FROM inbox WHERE consumer = 'reports'")
	var left int
	if err := owner.QueryRow(t.Context(), "SELECT count(*) FROM inbox").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d marks are left (%v): then the documentation should promise more", left, err)
	}

	if _, err := owner.Exec(t.Context(), fmt.Sprintf("REVOKE CONNECT ON DATABASE %s FROM PUBLIC", consumer.Config().Database)); err != nil {
		t.Fatal(err)
	}
	_, err := pgx.ConnectConfig(t.Context(), consumer.Config())
	if refused, ok := errors.AsType[*pgconn.PgError](err); !ok || refused.Code != "42501" {
		t.Errorf("a member of the role connects to a database that is not its own: %v", err)
	}
}
