package schema

import (
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	migrations "github.com/outbox-relay/relay/sql"
)

// oddSchema needs every kind of quoting.
const oddSchema = `"Odd 's schema"`

// traps are functions and operators that fit the calls in the bodies of our functions better than
// those of the server do. Each notes who runs it. A call that finds one of the temporary tables
// fails.
func traps() string {
	script := strings.Builder{}
	script.WriteString(`
CREATE TABLE loot (who name DEFAULT current_user, at timestamptz DEFAULT now());
GRANT INSERT ON loot TO PUBLIC;
CREATE FUNCTION note() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO HOME.loot DEFAULT VALUES; RETURN true; END $$;
CREATE FUNCTION same(oid, regclass) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN PERFORM HOME.note(); RETURN $1 OPERATOR(pg_catalog.=) $2::oid; END $$;
CREATE OPERATOR = (LEFTARG = oid, RIGHTARG = regclass, PROCEDURE = same);
CREATE FUNCTION pg_relation_size(oid) RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN PERFORM HOME.note(); RETURN pg_catalog.pg_relation_size($1::regclass); END $$;
CREATE FUNCTION hashtextextended(text, bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN PERFORM HOME.note(); RETURN 0; END $$;
`)
	for _, types := range []string{
		"text, text", "text, regclass", "text, bigint", "text, name", "text, uuid", "text, text, text", "text, text, name", "text, text, bigint",
		"text, text, name, uuid, uuid", "text, text, bigint, bigint", "text, text, bigint, text",
	} {
		fmt.Fprintf(&script, "CREATE FUNCTION format(%s) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM HOME.note(); RETURN 'SELECT 1'; END $$;\n", types)
	}
	for _, table := range []string{"outbox", "outbox_overflow", "inbox", "inbox_consumers", "inbox_sweeps", "inbox_started"} {
		fmt.Fprintf(&script, "CREATE TEMP TABLE %s (a int);\n", table)
	}
	return strings.ReplaceAll(script.String(), "HOME", oddSchema)
}

// everything installs all that there is in a schema with an odd name, and returns the owner's
// connection.
func everything(t *testing.T) (databaseURL string, owner *pgx.Conn) {
	t.Helper()
	databaseURL, owner = emptyDatabase(t)
	execute(t, owner, `CREATE SCHEMA `+oddSchema+`; SET search_path = `+oddSchema)
	for _, all := range [][]Migration{Migrations(), Inbox.Migrations(), LayoutSteps()} {
		for _, m := range all {
			execute(t, owner, m.Up)
		}
	}
	execute(t, owner, migrations.Roles)
	execute(t, owner, migrations.InboxRoles)
	return databaseURL, owner
}

// as connects as a new role that is a member of others.
func as(t *testing.T, databaseURL string, owner *pgx.Conn, name, in string) *pgx.Conn {
	t.Helper()
	execute(t, owner, fmt.Sprintf(`CREATE ROLE %s LOGIN PASSWORD 'x' IN ROLE %s`, name, in))
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	address.User = url.UserPassword(name, "x")
	return testpg.Connect(t, address.String())
}

// Functions that run with the rights of the owner, or that an owner calls, run nothing that
// somebody else made in their schema.
func TestFunctionsRunNothingThatOthersMadeInTheirSchema(t *testing.T) {
	databaseURL, owner := everything(t)
	mallory := as(t, databaseURL, owner, "mallory", "relay, outbox_writer, inbox_consumer, inbox_operator")
	execute(t, owner, "GRANT CREATE ON SCHEMA "+oddSchema+" TO mallory")
	execute(t, mallory, "SET search_path = "+oddSchema)
	execute(t, mallory, traps())
	var caught bool
	if err := mallory.QueryRow(t.Context(), `SELECT format('%s', 'x'::text) = 'SELECT 1'`).Scan(&caught); err != nil || !caught {
		t.Fatalf("the trap does not work: %v", err)
	}
	execute(t, mallory, "TRUNCATE loot")
	for _, path := range []string{"pg_temp, " + oddSchema + ", pg_catalog", "pg_catalog"} {
		execute(t, mallory, "SET search_path = "+path)
		for _, conn := range []*pgx.Conn{mallory, owner} {
			for _, call := range []string{
				"outbox_write('order', '1', 'T', '{}')", "outbox_write_bytes('order', '1', 'T', '')", "outbox_lock_aggregate('order', '1')",
				"outbox_add_partition(30)", "outbox_empty_partition(pg_current_snapshot(), 9000000000, '0')", "outbox_drop_partition()",
				"inbox_accept('c', 's', '1')", "inbox_retain('c', '1 day')", "inbox_add_weeks(52)", "inbox_empty_week()", "inbox_delete_marks()",
				"inbox_delete_started()", "inbox_drop_weeks()", "inbox_estimate()",
			} {
				if _, err := conn.Exec(t.Context(), "SELECT "+oddSchema+"."+call); err != nil {
					t.Errorf("%s, with the search_path %s: %v", call, path, err)
				}
			}
		}
	}
	var loot string
	if err := owner.QueryRow(t.Context(), `SELECT coalesce(string_agg(DISTINCT who, ', '), 'nobody') FROM loot`).Scan(&loot); err != nil || loot != "nobody" {
		t.Errorf("what mallory made was run by %s (%v)", loot, err)
	}
	var consumers string
	if err := owner.QueryRow(t.Context(), `SELECT string_agg(consumer, ' ') FROM inbox_consumers`).Scan(&consumers); err != nil || consumers != "c" {
		t.Errorf("the retention is of %q (%v)", consumers, err)
	}
}

// A body whose names are looked up at each call finds the server's own and nothing else, and one
// that runs as the owner sees every row.
func TestEveryFunctionPinsWhereItLooksUpNames(t *testing.T) {
	_, owner := everything(t)
	rows, err := owner.Query(t.Context(), `
		SELECT oid::regprocedure::text, prosecdef, coalesce(array_to_string(proconfig, '; '), ''), prosrc
		  FROM pg_proc WHERE pronamespace = quote_ident(current_schema())::regnamespace AND prosqlbody IS NULL ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	var name, config, body string
	var definer bool
	seen, definers := 0, 0
	_, err = pgx.ForEachRow(rows, []any{&name, &definer, &config, &body}, func() error {
		seen++
		if !strings.Contains(config, "search_path=pg_catalog, pg_temp") {
			t.Errorf("%s has the settings %q", name, config)
		}
		if definer {
			definers++
			if !strings.Contains(config, "row_security=off") {
				t.Errorf("%s runs as the owner with the settings %q", name, config)
			}
		}
		if strings.Contains(body, "{schema}") {
			t.Errorf("%s still has {schema} in its body", name)
		}
		return nil
	})
	if err != nil || seen < 15 || definers < 10 {
		t.Errorf("%d functions, %d of them run as the owner (%v)", seen, definers, err)
	}
}

// The functions hold the name of their schema; the documentation says what to do after a rename.
func TestTheDocumentedRenameOfTheSchemaWorks(t *testing.T) {
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(ALTER SCHEMA old_name RENAME.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/security.md does not say how to rename the schema")
	}
	_, conn := emptyDatabase(t)
	execute(t, conn, "CREATE SCHEMA old_name; SET search_path = old_name")
	for _, m := range append(Migrations(), Inbox.Migrations()...) {
		execute(t, conn, m.Up)
	}
	execute(t, conn, string(block[1]))
	execute(t, conn, "SET search_path = new_name")
	for _, call := range []string{"outbox_write('order', '1', 'T', '{}')", "inbox_accept('c', 's', '1')", "inbox_retain('c', '1 day')", "inbox_drop_weeks()"} {
		execute(t, conn, "SELECT "+call)
	}
}
