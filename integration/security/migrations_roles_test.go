package security

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/access"
	migrations "github.com/outbox-relay/relay/sql"
)

// withRoles applies roles.sql to the database, twice, and takes the rights back when the test ends.
func withRoles(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	rolesEndWithTheTest(t, conn, access.Roles()...)
	kit.Script(t, conn, "BEGIN;"+migrations.Roles+"COMMIT")
	kit.Script(t, conn, "GRANT UPDATE, DELETE, TRUNCATE ON outbox TO outbox_writer; GRANT UPDATE (type) ON outbox TO outbox_writer")
	for _, statement := range kit.SplitAsPsql(migrations.Roles) {
		kit.Script(t, conn, statement)
	}
}

// knownRoles are the roles of files that tests of this run have.
var knownRoles sync.Map

// rolesEndWithTheTest takes back, when the test ends, what a file of roles gives in the database.
// Roles belong to the whole server, which may be the user's: one that tests have made goes when all
// have ended, because other tests have it too; one that was there stays.
func rolesEndWithTheTest(t *testing.T, conn *pgx.Conn, roles ...string) {
	t.Helper()
	url := conn.Config().ConnString()
	for _, role := range roles {
		var there bool
		if err := conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if _, known := knownRoles.LoadOrStore(role, true); !known && !there {
			kit.RoleEndsWithTheRun(t, role)
		}
		t.Cleanup(func() { kit.Execute(t, url, "DROP OWNED BY "+role) })
	}
}

// as runs a statement with the rights of a role, in a transaction that is rolled back, and returns
// its SQLSTATE.
func as(t *testing.T, conn interface {
	Begin(context.Context) (pgx.Tx, error)
}, role, statement string) string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tx.Rollback(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE "+role); err != nil {
		t.Fatal(err)
	}
	_, err = tx.Exec(t.Context(), statement)
	if err != nil && kit.SQLState(err) == "" {
		t.Fatalf("%s: %v", statement, err)
	}
	return kit.SQLState(err)
}

const denied = "42501"

func TestRolesMayDoTheirWorkAndNothingElse(t *testing.T) {
	t.Parallel()
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	// A database that grants EXECUTE on new functions to no role.
	kit.Script(t, conn, `ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
		CREATE SCHEMA "Odd schema"; SET search_path = "Odd schema"`)
	for _, m := range migrations.List() {
		kit.Script(t, conn, m.Up)
	}
	withRoles(t, conn)
	kit.Script(t, conn, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T'); INSERT INTO relay_lanes (lane) VALUES ('outbox')")

	for role, allowed := range map[string][]string{
		"outbox_writer": {
			"INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', '1', 'T', '{}')",
			"INSERT INTO outbox (msg_id, aggregate_type, aggregate_id, type, payload, headers) VALUES (gen_random_uuid(), 'a', '1', 'T', '', '{}')",
			"SELECT outbox_write('order', '1', 'T', '{}')",
			"SELECT outbox_write_bytes('order', '1', 'T', '')",
			"SELECT outbox_lock_aggregate('order', '1')",
		},
		"relay": {
			"SELECT * FROM outbox", "SELECT count(*) FROM outbox WHERE xact_id < pg_snapshot_xmin(pg_current_snapshot())",
			"DELETE FROM outbox WHERE id = 1",
			"SELECT * FROM relay_lanes FOR UPDATE",
			"INSERT INTO relay_lanes (lane) VALUES ('other')",
			"UPDATE relay_lanes SET seq = seq + 1 WHERE lane = 'outbox' AND owner_epoch = 0",
			"SELECT system_identifier FROM pg_control_system()", "SELECT timeline_id FROM pg_control_checkpoint()",
			"SELECT pg_is_in_recovery()",
			`INSERT INTO relay_recoveries (lane, cause, diagnosis, choice, who, why, before, after) VALUES ('l', 'c', 'd', 'c', 'w', 'w', '{}', '{}')`,
			"UPDATE relay_recoveries SET finished_at = now()", "SELECT * FROM relay_recoveries",
		},
	} {
		for _, statement := range allowed {
			if state := as(t, conn, role, statement); state != "" {
				t.Errorf("%s may not %s: SQLSTATE %s", role, statement, state)
			}
		}
	}
	for role, forbidden := range map[string][]string{
		"outbox_writer": {
			"SELECT id FROM outbox", "UPDATE outbox SET type = 'X'", "DELETE FROM outbox", "TRUNCATE outbox", "LOCK TABLE outbox IN SHARE MODE",
			"INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('a', '1', 'T') RETURNING id",
			"INSERT INTO outbox (aggregate_type, aggregate_id, type, xact_id) VALUES ('a', '1', 'T', '3')",
			"INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at) VALUES ('a', '1', 'T', now())",
			"INSERT INTO outbox (id, aggregate_type, aggregate_id, type) OVERRIDING SYSTEM VALUE VALUES (1, 'a', '1', 'T')",
			"INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('a', '1', 'T', 't')",
			"SELECT outbox_write('order', '1', 'T', '{}', topic => 't')",
			"SELECT nextval('outbox_id_seq')", "SELECT setval('outbox_id_seq', 1)",
			"SELECT lane FROM relay_lanes", "INSERT INTO relay_lanes (lane) VALUES ('x')", "UPDATE relay_lanes SET seq = 0", "DELETE FROM relay_lanes",
			"CREATE TABLE x ()",
		},
		"relay": {
			"INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('a', '1', 'T')", "UPDATE outbox SET payload = ''", "TRUNCATE outbox",
			"DELETE FROM relay_lanes", "TRUNCATE relay_lanes", "DELETE FROM relay_recoveries", "UPDATE relay_recoveries SET who = ''", "SELECT outbox_write('order', '1', 'T', '{}')", "DROP TABLE outbox", "CREATE TABLE x ()",
		},
	} {
		for _, statement := range forbidden {
			if state := as(t, conn, role, statement); state != denied {
				t.Errorf("%s may %s (SQLSTATE %q)", role, statement, state)
			}
		}
	}
}
