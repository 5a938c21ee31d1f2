package security

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/access"
	migrations "github.com/outbox-relay/relay/sql"
)

// login makes a role that may log in and that has the given role and nothing else, and returns the
// database's URL for it.
func login(t testing.TB, databaseURL, role, password string) string {
	t.Helper()
	address := bareLogin(t, databaseURL, password)
	kit.Execute(t, databaseURL, "GRANT "+role+" TO "+loginOf(t, address))
	return address
}

// inSchema is the URL with the schema as search_path.
func inSchema(t testing.TB, databaseURL, schema string) string {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	query := address.Query()
	query.Set("search_path", schema)
	address.RawQuery = query.Encode()
	return address.String()
}

// loginOf is the role that the URL logs in with.
func loginOf(t testing.TB, databaseURL string) string {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	return address.User.Username()
}

// bareLogin makes a role that may log in and nothing else, and returns the database's URL for it.
func bareLogin(t testing.TB, databaseURL, password string) string {
	t.Helper()
	name := "login_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "")
	kit.Execute(t, databaseURL, fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'", name, password))
	t.Cleanup(func() { kit.Execute(t, databaseURL, "DROP ROLE "+name) })
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(name, password)
	return address.String()
}

// The relay runs as a login that has what relay acl prints and nothing else: it publishes, is
// replaced after SIGKILL, ends the session of an owner that is frozen, and shows its status.
func TestTheRelayRunsWithTheGrantsThatItPrints(t *testing.T) {
	t.Parallel()
	owner := inSchema(t, kit.EmptyDatabase(t), "events")
	kit.Execute(t, owner, "CREATE SCHEMA events")
	kit.Migrate(t, owner)
	rolesEndWithTheTest(t, kit.Connect(t, owner), access.Roles()...)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, bareLogin(t, owner, "rel4y"), kit.Brokers(t), route, "RELAY_BATCH_ROWS=200", "RELAY_SCHEMA=events")
	printed := kit.StartRelay(t, settings, "acl", "--only", "sql")
	if status := printed.Wait(time.Minute); status != 0 {
		t.Fatalf("relay acl ended with status %d", status)
	}
	kit.Execute(t, owner, string(printed.Stdout()))
	load := kit.StartWorkload(t, owner, 4, &kit.Workload{Pause: 10 * time.Millisecond})
	killed := kit.StartRelay(t, settings, "run")
	kit.Eventually(t, time.Minute, "the first relay publishes", func() bool { return kit.LaneSeq(t, owner) > 5 })
	killed.Kill()
	frozen := kit.StartRelay(t, settings, "run")
	seq := kit.LaneSeq(t, owner)
	kit.Eventually(t, time.Minute, "the second relay publishes", func() bool { return kit.LaneSeq(t, owner) > seq+5 })
	frozen.Pause()
	last := kit.StartRelay(t, settings, "run")
	last.AwaitLog(time.Minute, "the owner of the lane is silent; its session is ended")
	seq = kit.LaneSeq(t, owner)
	kit.Eventually(t, time.Minute, "the third relay publishes", func() bool { return kit.LaneSeq(t, owner) > seq+5 })
	frozen.Resume()
	frozen.AwaitLog(time.Minute, "lane waits")
	status := kit.StartRelay(t, settings, "status")
	if code := status.Wait(time.Minute); code != 0 || !strings.Contains(string(status.Stdout()), "running") {
		t.Errorf("relay status ended with %d and said\n%s", code, status.Stdout())
	}
	load.Stop()
	kit.AwaitPublished(t, load)
	for _, r := range []*kit.RelayProcess{frozen, last} {
		r.Terminate()
		r.Wait(time.Minute)
		if strings.Contains(string(r.Stderr()), "permission denied") {
			t.Error("the relay was refused something")
		}
	}
	kit.Finish(t, load, settings, topic)
}

// Postgres shows, and lets one end, the sessions of one's own role only: relays with their own
// logins need two roles more to replace an owner that is frozen.
func TestSessionsOfAnotherLoginNeedTwoMoreRoles(t *testing.T) {
	t.Parallel()
	owner := kit.Database(t)
	withRoles(t, kit.Connect(t, owner))
	frozen, other := login(t, owner, access.RelayRole, "fr0zen"), login(t, owner, access.RelayRole, "0ther")
	session := kit.Connect(t, frozen)
	defer kit.CloseQuietly(session) // before its role goes
	pid := session.PgConn().PID()
	look := func() (seen bool, state string) {
		conn := kit.Connect(t, other)
		defer kit.CloseQuietly(conn)
		err := conn.QueryRow(t.Context(), "SELECT state_change IS NOT NULL FROM pg_stat_activity WHERE pid = $1", pid).Scan(&seen)
		if err != nil {
			t.Fatal(err)
		}
		_, err = conn.Exec(t.Context(), "SELECT pg_terminate_backend($1)", pid)
		return seen, kit.SQLState(err)
	}
	if seen, state := look(); seen || state != denied {
		t.Errorf("without them: the session's state is seen: %t; ending it: SQLSTATE %q", seen, state)
	}
	kit.Execute(t, owner, "GRANT pg_signal_backend, pg_read_all_stats TO "+loginOf(t, other))
	if seen, state := look(); !seen || state != "" {
		t.Errorf("with them: the session's state is seen: %t; ending it: SQLSTATE %q", seen, state)
	}
}

// privileges are what the roles hold in the schema, as the server says it.
func privileges(t *testing.T, conn *pgx.Conn, roles ...string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `
WITH held AS (
    SELECT 'table' AS kind, relname::text AS object, NULL::text AS column, a.* FROM pg_class, aclexplode(relacl) a
    WHERE relnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'table', c.relname, attname, a.* FROM pg_attribute JOIN pg_class c ON c.oid = attrelid, aclexplode(attacl) a
    WHERE relnamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'function', proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', NULL, a.* FROM pg_proc p, aclexplode(proacl) a
    WHERE pronamespace = current_schema()::regnamespace
    UNION ALL
    SELECT 'schema', '', NULL, a.* FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = current_schema())
SELECT concat_ws(' ', privilege_type, "column", kind, object, rolname) FROM held JOIN pg_roles r ON r.oid = grantee
WHERE rolname = ANY ($1) ORDER BY 1`, roles)
	if err != nil {
		t.Fatal(err)
	}
	held, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return held
}

// asPrivileges are grants in the form of privileges.
func asPrivileges(t *testing.T, conn *pgx.Conn, grants []access.Grant) []string {
	t.Helper()
	set := map[string]bool{}
	for _, g := range grants {
		object := g.Object
		if g.OnlyWith != "" {
			continue // this database has the layout of the migrations alone
		}
		if g.Kind == "function" { // the server also names the arguments
			err := conn.QueryRow(t.Context(),
				"SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')' FROM pg_proc WHERE oid = $1::regprocedure", object).Scan(&object)
			if err != nil {
				t.Fatal(err)
			}
		}
		columns := g.Columns
		if len(columns) == 0 {
			columns = []string{""}
		}
		for _, column := range columns {
			words := []string{g.Privilege, column, g.Kind, object, g.Role}
			if column == "" {
				words = slices.Delete(words, 1, 2)
			}
			set[strings.Join(words, " ")] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// needed are the statements for which the roles are there. If you add a grant, add the statement
// that needs it.
var needed = map[string][]string{
	"relay_operator": {
		"SELECT lane, state, reason FROM relay_lanes",
		"SELECT settings, settings_by, settings_changed FROM relay_bindings", // relay status
		"SELECT lane, aggregate_id, error FROM outbox_parked",
		"SELECT lane, request, outcome FROM outbox_parked_audit",
		`INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, msg_id, reason)
			VALUES ('outbox', 'retry', 'a', '1', NULL, 'mended')`,
	},
	access.WriterRole: {
		`INSERT INTO outbox (msg_id, aggregate_type, aggregate_id, type, payload, headers)
			VALUES (gen_random_uuid(), 'a', '1', 'T', '', '{}')`,
		"INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('a', '1', 'T')", // the default of msg_id is a function
		"SELECT outbox_write('order', '1', 'T', '{}')",
		"SELECT outbox_write_bytes('order', '1', 'T', '')",
		"SELECT outbox_lock_aggregate('order', '1')",
	},
	access.RelayRole: {
		"SELECT id, xact_id, msg_id, aggregate_type, aggregate_id, type, topic, payload, headers, created_at FROM outbox ORDER BY id",
		"DELETE FROM outbox WHERE ctid = ANY (ARRAY(SELECT ctid FROM outbox LIMIT 1))",
		"INSERT INTO relay_lanes AS r (lane, owner_epoch) VALUES ('outbox', 1) ON CONFLICT (lane) DO UPDATE SET owner_epoch = r.owner_epoch + 1",
		"INSERT INTO relay_lanes (lane) VALUES ('new')",
		"UPDATE relay_lanes SET seq = seq + 1 WHERE lane = 'outbox'",
		"SELECT table_oid FROM relay_bindings", "DELETE FROM relay_bindings WHERE table_oid = 1",
		"INSERT INTO relay_bindings (lane, table_oid, table_name, settings, settings_by) VALUES ('outbox', 1, 't', '{}', 'me')",
		"UPDATE relay_bindings SET settings_changed = 'yes'",
		"SELECT id FROM relay_recoveries WHERE finished_at IS NULL",
		"INSERT INTO relay_recoveries (lane, cause, diagnosis, choice, who, why, before, after) " +
			"VALUES ('outbox', 'database-behind', 'd', 'kafka', 'me', 'w', '{}', '{}')",
		"UPDATE relay_recoveries SET finished_at = now()",
		`INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, created_at, seq, cause)
			SELECT 'outbox', id, msg_id, aggregate_type, aggregate_id, type, created_at, 1, 'refused' FROM outbox`,
		"SELECT id, msg_id, payload FROM outbox_parked WHERE lane = 'outbox' ORDER BY seq, id",
		"UPDATE outbox_parked SET released_seq = 2", "DELETE FROM outbox_parked WHERE released_seq <= 2",
		"SELECT request FROM outbox_parked_audit WHERE done_seq IS NULL",
		`INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, requested_by, reason)
			VALUES ('outbox', 'skip', 'a', '1', 'relay', 'refused')`,
		"UPDATE outbox_parked_audit SET done_seq = 2", "DELETE FROM outbox_parked_audit WHERE done_seq > 2 AND action = 'skip'",
	},
}

// Each grant that relay acl prints is in the database after roles.sql, there is no other, and
// without it a statement fails for which the role is there.
func TestEveryPrintedGrantIsNeeded(t *testing.T) {
	t.Parallel()
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	kit.Script(t, conn, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; CREATE SCHEMA events; SET search_path = events")
	for _, m := range migrations.List() {
		kit.Script(t, conn, m.Up)
	}
	withRoles(t, conn)
	kit.Script(t, conn, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T'); INSERT INTO relay_lanes (lane) VALUES ('outbox')")
	_, grants := printedAccess(t, nil, "--name", "shop")
	if got, want := privileges(t, conn, access.Roles()...), asPrivileges(t, conn, grants); !slices.Equal(got, want) {
		t.Errorf("the server holds\n%s\nand relay acl prints\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for role, statements := range needed {
		for _, statement := range statements {
			if state := as(t, conn, role, statement); state != "" {
				t.Errorf("%s may not %s: SQLSTATE %s", role, statement, state)
			}
		}
	}
	for _, grant := range byColumn(grants) {
		if grant.OnlyWith != "" {
			continue
		}
		if grant.Kind == "schema" {
			grant.Object = "events"
		}
		statement := strings.Replace(strings.Replace(grant.String(), "GRANT", "REVOKE", 1), " TO ", " FROM ", 1)
		if !failsAfter(t, conn, grant.Role, statement) {
			t.Errorf("after %s everything works as before", statement)
		}
	}
}

// byColumn takes grants on several columns apart.
func byColumn(grants []access.Grant) []access.Grant {
	var single []access.Grant
	for _, g := range grants {
		if len(g.Columns) == 0 {
			single = append(single, g)
			continue
		}
		for _, column := range g.Columns {
			one := g
			one.Columns = []string{column}
			single = append(single, one)
		}
	}
	return single
}

// failsAfter reports whether a statement that the role is there for is denied once revoke has run.
// All of it is removed.
func failsAfter(t *testing.T, conn *pgx.Conn, role, revoke string) bool {
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
	if _, err := tx.Exec(t.Context(), revoke); err != nil {
		t.Fatalf("%s: %v", revoke, err)
	}
	for _, statement := range needed[role] {
		switch state := as(t, tx, role, statement); state { // in a savepoint
		case "":
		case denied:
			return true
		case "42P01", "42883": // without the schema nothing in it is there
			return true
		default:
			t.Errorf("after %s: %s: SQLSTATE %s", revoke, statement, state)
		}
	}
	return false
}

// Nothing that a writer can say changes what decides order and visibility.
func TestAWriterCanForgeNothing(t *testing.T) {
	t.Parallel()
	conn := kit.Connect(t, kit.Database(t))
	withRoles(t, conn)
	kit.Script(t, conn, "INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'T')")
	const columns = "INSERT INTO outbox (aggregate_type, aggregate_id, type"
	for _, statement := range []string{
		columns + ", xact_id) VALUES ('a', '1', 'T', pg_current_xact_id())",
		columns + ", xact_id) VALUES ('a', '1', 'T', DEFAULT)",
		columns + ", created_at) VALUES ('a', '1', 'T', 'epoch')",
		columns + ", id) OVERRIDING SYSTEM VALUE VALUES ('a', '1', 'T', 1)",
		columns + ", id) OVERRIDING USER VALUE VALUES ('a', '1', 'T', 1)",
		columns + ") VALUES ('a', '1', 'T') ON CONFLICT (id) DO UPDATE SET payload = ''",
		columns + ") VALUES ('a', '1', 'T') RETURNING xact_id",
		"COPY outbox (aggregate_type, aggregate_id, type, xact_id) FROM STDIN",
		"COPY outbox TO STDOUT",
		"UPDATE outbox SET xact_id = '1'", "UPDATE outbox SET created_at = now()", "UPDATE outbox SET payload = NULL WHERE false",
		"DELETE FROM outbox WHERE false", "SELECT 1 FROM outbox FOR UPDATE",
		"MERGE INTO outbox o USING (SELECT 1 AS id) s ON false WHEN NOT MATCHED THEN INSERT (aggregate_type, aggregate_id, type, xact_id) VALUES ('a', '1', 'T', '1')",
		"ALTER TABLE outbox ALTER COLUMN xact_id DROP DEFAULT", "ALTER SEQUENCE outbox_id_seq RESTART", "SELECT nextval('outbox_id_seq')",
		"CREATE TRIGGER t BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
		"SET LOCAL session_replication_role = replica",
	} {
		if strings.HasPrefix(statement, "MERGE") && serverVersion(t, conn) < 15 {
			continue
		}
		if state := as(t, conn, access.WriterRole, statement); state != denied {
			t.Errorf("outbox_writer may %s (SQLSTATE %q)", statement, state)
		}
	}
}

func serverVersion(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var version int
	if err := conn.QueryRow(t.Context(), "SELECT current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}
