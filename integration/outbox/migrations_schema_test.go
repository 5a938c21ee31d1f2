package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	golangmigrate "github.com/golang-migrate/migrate/v4"
	migratedatabase "github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	migratepq "github.com/golang-migrate/migrate/v4/database/postgres"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/outbox-relay/relay/integration/kit"
	migrations "github.com/outbox-relay/relay/sql"
)

// catalog lists everything that migrations create in a schema: relations, columns with their
// defaults, constraints, indexes, functions with their settings, and comments.
const catalog = `
	SELECT 'relation ' || relname || ' ' || relkind::text || ' ' || coalesce(reloptions::text, '') FROM pg_class c
	WHERE relnamespace = $1::regnamespace AND relkind <> 'i'
	UNION ALL SELECT format('column %s.%s %s %s null=%s identity=%s default=%s comment=%s', relname, attname, attnum,
	    format_type(atttypid, atttypmod), NOT attnotnull, attidentity, pg_get_expr(adbin, adrelid), col_description(c.oid, attnum))
	FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid LEFT JOIN pg_attrdef d ON adrelid = c.oid AND adnum = attnum
	WHERE relnamespace = $1::regnamespace AND attnum > 0 AND relkind = 'r' AND NOT attisdropped
	UNION ALL SELECT 'constraint ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = $1::regnamespace
	UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE quote_ident(schemaname)::regnamespace = $1::regnamespace
	UNION ALL SELECT format('function %s(%s) %s %s %s', proname, pg_get_function_arguments(oid), prosrc, proconfig, obj_description(oid))
	FROM pg_proc WHERE pronamespace = $1::regnamespace
	ORDER BY 1`

func catalogOf(t *testing.T, conn *pgx.Conn, schema string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), catalog, pgx.Identifier{schema}.Sanitize())
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// In a schema whose name needs quotes, each step down leaves exactly what was there before the step
// up, and every object lands in that schema.
func TestMigrationsGoUpAndDownInAnySchema(t *testing.T) {
	url := kit.EmptyDatabase(t)
	conn := kit.Connect(t, url)
	const schema = "Odd schema"
	kit.Script(t, conn, `CREATE SCHEMA "Odd schema"; SET search_path = "Odd schema"`)
	var before [][]string
	list := migrations.List()
	for _, m := range list {
		before = append(before, catalogOf(t, conn, schema))
		kit.Script(t, conn, m.Up)
	}
	complete := catalogOf(t, conn, schema)
	for i, m := range slices.Backward(list) {
		kit.Script(t, conn, m.Down)
		if left := catalogOf(t, conn, schema); !slices.Equal(left, before[i]) {
			t.Errorf("%04d_%s.down.sql left\n%s\nbefore it there was\n%s", m.Version, m.Name, strings.Join(left, "\n"), strings.Join(before[i], "\n"))
		}
	}
	for _, m := range list {
		kit.Script(t, conn, m.Up)
	}
	if again := catalogOf(t, conn, schema); !slices.Equal(again, complete) {
		t.Error("the second way up ended elsewhere than the first")
	}
	if elsewhere := catalogOf(t, conn, "public"); len(elsewhere) > 0 {
		t.Errorf("in the schema public: %q", elsewhere)
	}
}

// psql sends one statement at a time, each in its own transaction.
func TestMigrationsRunStatementByStatementAsInPsql(t *testing.T) {
	conn := kit.Connect(t, kit.EmptyDatabase(t))
	run := func(name, text string) {
		statements := kit.SplitAsPsql(text)
		if len(statements) == 0 {
			t.Errorf("%s has no statement", name)
		}
		for _, statement := range statements {
			if _, err := conn.PgConn().Exec(t.Context(), statement).ReadAll(); err != nil {
				t.Fatalf("%s: %v in:\n%s", name, err, statement)
			}
		}
	}
	for _, m := range migrations.List() {
		run(m.Name, m.Up)
	}
	for _, m := range slices.Backward(migrations.List()) {
		run(m.Name, m.Down)
	}
	if left := catalogOf(t, conn, "public"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestGolangMigrateAppliesAndRemovesTheMigrations(t *testing.T) {
	for name, open := range map[string]func(*sql.DB) (migratedatabase.Driver, error){
		"pgx": func(db *sql.DB) (migratedatabase.Driver, error) {
			return migratepgx.WithInstance(db, &migratepgx.Config{})
		},
		"postgres": func(db *sql.DB) (migratedatabase.Driver, error) {
			return migratepq.WithInstance(db, &migratepq.Config{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := kit.EmptyDatabase(t)
			db, err := sql.Open(name, url)
			if err != nil {
				t.Fatal(err)
			}
			target, err := open(db)
			if err != nil {
				t.Fatal(err)
			}
			files, err := iofs.New(migrations.FS, ".")
			if err != nil {
				t.Fatal(err)
			}
			tool, err := golangmigrate.NewWithInstance("iofs", files, name, target)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if sourceErr, databaseErr := tool.Close(); sourceErr != nil || databaseErr != nil {
					t.Error(errors.Join(sourceErr, databaseErr))
				}
			})
			if err := tool.Up(); err != nil {
				t.Fatal(err)
			}
			list := migrations.List()
			if version, dirty, err := tool.Version(); version != list[len(list)-1].Version || dirty || err != nil {
				t.Errorf("version %d, dirty %v, %v", version, dirty, err)
			}
			conn := kit.Connect(t, url)
			if _, err := conn.Exec(t.Context(), "SELECT outbox_write('order', '1', 'OrderPlaced', '{}')"); err != nil {
				t.Error(err)
			}
			if err := tool.Down(); err != nil {
				t.Fatal(err)
			}
			for _, left := range catalogOf(t, conn, "public") {
				if !strings.Contains(left, "schema_migrations") {
					t.Errorf("left behind: %s", left)
				}
			}
		})
	}
}

// What any language may write, and what the table refuses from all of them.
func TestOutboxTakesAPlainInsertAndRefusesRowsThatCouldNotBeSent(t *testing.T) {
	conn := kit.Connect(t, kit.Database(t))
	insert := func(columns, values string) error {
		_, err := conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO outbox (%s) VALUES (%s)", columns, values))
		return err
	}
	if err := insert("aggregate_type, aggregate_id, type, payload", "'order', '1', 'OrderPlaced', '{}'"); err != nil {
		t.Error(err)
	}
	var complete bool
	if err := conn.QueryRow(context.Background(), `SELECT msg_id IS NOT NULL AND xact_id < pg_current_xact_id()
		AND created_at BETWEEN now() - interval '1 minute' AND clock_timestamp() FROM outbox`).Scan(&complete); err != nil || !complete {
		t.Errorf("defaults complete: %v, %v", complete, err)
	}
	const columns = "aggregate_type, aggregate_id, type, topic, headers"
	for _, values := range []string{
		"'', '1', 'T', NULL, NULL", "'a', '', 'T', NULL, NULL", "'a', '1', '', NULL, NULL", "'a', '1', 'T', '', NULL",
		`'a', '1', 'T', NULL, '[]'`, `'a', '1', 'T', NULL, '"text"'`, "NULL, '1', 'T', NULL, NULL",
	} {
		if state := kit.SQLState(insert(columns, values)); state != "23514" && state != "23502" {
			t.Errorf("VALUES (%s): SQLSTATE %q, want a violated check", values, state)
		}
	}
	if state := kit.SQLState(insert("id, aggregate_type, aggregate_id, type", "1, 'a', '1', 'T'")); state != "428C9" {
		t.Errorf("an id of one's own: SQLSTATE %q, want 428C9", state)
	}
}
