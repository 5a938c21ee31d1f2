package pg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/harness/testpg"
)

// socket is the folder of the server's Unix socket.
var socket string

func TestMain(m *testing.M) {
	var err error
	// Not the folder of the test binary: the path of a socket has at most 107 bytes, and the server
	// may run as another user.
	if socket, err = os.MkdirTemp("/tmp", "pg"); err == nil {
		err = os.Chmod(socket, 0o777)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testpg.Main(m, testpg.Options{
		Parameters: map[string]string{"unix_socket_directories": socket},
		Stop:       func() error { return os.RemoveAll(socket) },
	})
}

// connect opens a session until the test ends.
func connect(t *testing.T, address string, options Options) *pgx.Conn {
	t.Helper()
	conn, err := Connect(t.Context(), address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { Close(conn) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, script string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

func setting(t *testing.T, conn *pgx.Conn, name string) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

// database makes an empty one, with a login that has its own settings.
func database(t *testing.T, name, options string) (admin *pgx.Conn, role, address string) {
	t.Helper()
	first := connect(t, testpg.URL(t), Options{})
	exec(t, first, `CREATE DATABASE `+name+` TEMPLATE template0 `+options)
	role = name + "_login"
	exec(t, first, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'`)
	parsed, err := url.Parse(testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	parsed.Path = "/" + name
	admin = connect(t, parsed.String(), Options{AnyEncoding: true})
	parsed.User = url.UserPassword(role, "secret")
	return admin, role, parsed.String()
}

// other returns a value that a pinned setting must not have.
func other(name, value string) string {
	switch value {
	case "on":
		return "off"
	case "off":
		return "on"
	case "0":
		return "7s"
	}
	return map[string]string{
		"default_transaction_isolation": "serializable", "client_encoding": "LATIN1", "DateStyle": "SQL, DMY",
		"IntervalStyle": "iso_8601", "TimeZone": "Asia/Kathmandu", "bytea_output": "escape", "extra_float_digits": "-3",
		"client_min_messages": "error", "plan_cache_mode": "force_generic_plan", "constraint_exclusion": "off",
	}[name]
}

// promised are the settings of a session, apart from the code that pins them.
var promised = map[string]string{
	"default_transaction_isolation":       "read committed",
	"default_transaction_read_only":       "off",
	"default_transaction_deferrable":      "off",
	"row_security":                        "off",
	"synchronous_commit":                  "on",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"idle_session_timeout":                "0",
	"client_encoding":                     "UTF8",
	"DateStyle":                           "ISO, MDY",
	"IntervalStyle":                       "postgres",
	"TimeZone":                            "UTC",
	"bytea_output":                        "hex",
	"extra_float_digits":                  "1",
	"standard_conforming_strings":         "on",
	"array_nulls":                         "on",
	"transform_null_equals":               "off",
	"client_min_messages":                 "warning",
	"enable_bitmapscan":                   "on",
	"enable_hashagg":                      "on",
	"enable_hashjoin":                     "on",
	"enable_incremental_sort":             "on",
	"enable_indexonlyscan":                "on",
	"enable_indexscan":                    "on",
	"enable_material":                     "on",
	"enable_memoize":                      "on",
	"enable_mergejoin":                    "on",
	"enable_nestloop":                     "on",
	"enable_partition_pruning":            "on",
	"enable_seqscan":                      "on",
	"enable_sort":                         "on",
	"enable_tidscan":                      "on",
	"plan_cache_mode":                     "auto",
	"constraint_exclusion":                "partition",
}

func TestEverySettingThatIsPromisedIsPinned(t *testing.T) {
	if !maps.Equal(pinned, promised) {
		t.Errorf("a session pins %v, and promised is %v", pinned, promised)
	}
}

// Wherever a setting comes from, a session has the pinned value, and nothing else that the user has
// set is lost.
func TestASessionHasThePinnedSettingsWhereverOthersComeFrom(t *testing.T) {
	admin, role, address := database(t, "pinned", "")
	sources := map[string]func(name, value string){
		"role": func(name, value string) {
			exec(t, admin, fmt.Sprintf(`ALTER ROLE %s SET %s = '%s'`, role, name, value))
		},
		"database": func(name, value string) {
			exec(t, admin, fmt.Sprintf(`ALTER DATABASE pinned SET %s = '%s'`, name, value))
		},
		"role in database": func(name, value string) {
			exec(t, admin, fmt.Sprintf(`ALTER ROLE %s IN DATABASE pinned SET %s = '%s'`, role, name, value))
		},
	}
	var options []string
	for name, value := range pinned {
		options = append(options, fmt.Sprintf("-c %s=%s", name, strings.ReplaceAll(other(name, value), " ", `\ `)))
	}
	query := url.Values{"options": {strings.Join(options, " ")}, "datestyle": {"German"}, "work_mem": {"5MB"}}
	addresses := []string{address, address + "&" + strings.ReplaceAll(query.Encode(), "+", "%20")}
	for source, put := range sources {
		for name, value := range pinned {
			put(name, other(name, value))
		}
		for i, address := range addresses {
			conn := connect(t, address, Options{})
			for name, want := range pinned {
				if got := setting(t, conn, name); got != want {
					t.Errorf("of the %s: %s is %q, want %q", source, name, got, want)
				}
			}
			if got := setting(t, conn, "work_mem"); i == 1 && got != "5MB" {
				t.Errorf("work_mem of the connection string became %q", got)
			}
		}
	}
}

func TestASessionsOwnSettingsReplaceThePinnedOnes(t *testing.T) {
	conn := connect(t, testpg.URL(t), Options{
		Application: "mine", ReadOnly: true, Settings: map[string]string{"synchronous_commit": "off", "lock_timeout": "100ms"},
	})
	for name, want := range map[string]string{
		"application_name": "mine", "synchronous_commit": "off", "lock_timeout": "100ms", "default_transaction_read_only": "on",
		"statement_timeout": "0", "search_path": `"public", pg_temp`,
	} {
		if got := setting(t, conn, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// transaction_timeout ends a session whose transaction lasts too long. Servers before 17 do not
// know it.
func TestTransactionsHaveNoTimeLimitOfTheRole(t *testing.T) {
	admin, role, address := database(t, "limits", "")
	if majorVersion(admin.PgConn()) < 17 {
		if got := setting(t, connect(t, address, Options{}), "statement_timeout"); got != "0" {
			t.Errorf("statement_timeout is %q", got)
		}
		return
	}
	exec(t, admin, `ALTER ROLE `+role+` SET transaction_timeout = '20ms'`)
	if got := setting(t, connect(t, address, Options{}), "transaction_timeout"); got != "0" {
		t.Errorf("transaction_timeout is %q", got)
	}
}

// A setting that only a superuser may change, or that something in between has dropped, is told by
// its name.
func TestASessionWithoutAPinnedSettingIsRefused(t *testing.T) {
	admin, role, address := database(t, "refused", "")
	exec(t, admin, `ALTER ROLE `+role+` SET session_replication_role = replica`)
	_, err := Connect(t.Context(), address, Options{})
	want := SettingError{Name: "session_replication_role", Want: "origin", Got: "replica"}
	if got, ok := errors.AsType[*SettingError](err); !ok || *got != want {
		t.Fatalf("the session ended with %v, want %v", err, &want)
	}
	if refused := Refused(err); refused == nil || strings.Contains(refused.Error(), "secret") {
		t.Errorf("the reason is %v", refused)
	}
	exec(t, admin, `ALTER ROLE `+role+` RESET session_replication_role`)

	// As a pooler does that gives out a session which somebody else has used.
	cfg, err := Config(address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.ValidateConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
		return conn.Exec(ctx, `SET row_security = on`).Close()
	}
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	if got, ok := errors.AsType[*SettingError](err); !ok || got.Name != "row_security" || got.Got != "on" {
		t.Errorf("a session whose settings were dropped ended with %v", err)
	}
}

func TestADatabaseThatIsNotUTF8IsRefused(t *testing.T) {
	for name, encoding := range map[string]string{"latin": "LATIN1", "ascii": "SQL_ASCII"} {
		_, _, address := database(t, name, `ENCODING '`+encoding+`' LC_COLLATE 'C' LC_CTYPE 'C'`)
		_, err := Connect(t.Context(), address, Options{})
		if got, ok := errors.AsType[*EncodingError](err); !ok || got.Encoding != encoding || Refused(err) == nil {
			t.Errorf("%s: the session ended with %v", encoding, err)
		}
		if got := setting(t, connect(t, address, Options{AnyEncoding: true}), "client_encoding"); got != "UTF8" {
			t.Errorf("%s: client_encoding is %s", encoding, got)
		}
	}
}

// The search_path chooses a schema when the session is opened, and never decides about a single
// table.
func TestNamesAreFoundInOneSchema(t *testing.T) {
	admin, role, address := database(t, "schemas", "")
	exec(t, admin, `
CREATE SCHEMA first; CREATE SCHEMA second; CREATE SCHEMA "odd ""one"; CREATE SCHEMA hidden;
CREATE TABLE first.outbox (); CREATE TABLE second.outbox (); CREATE TABLE second.relay_lanes (); CREATE TABLE hidden.relay_lanes ();
CREATE TABLE "odd ""one".relay_lanes ();
CREATE FUNCTION first.current_setting(text, bool) RETURNS text LANGUAGE sql AS $$SELECT 'off'::text$$;
CREATE FUNCTION first.set_config(text, text, bool) RETURNS text LANGUAGE sql AS $$SELECT $2$$;
GRANT USAGE ON SCHEMA first, second, "odd ""one" TO PUBLIC`)
	for path, want := range map[string]string{
		`first, second`:             "second",
		`second, first`:             "second",
		`hidden, first, second`:     "second", // the role may not look into hidden
		`first, pg_catalog, second`: "second",
		`first`:                     "first", // relay_lanes is nowhere
		`nowhere, first`:            "first",
		`"odd ""one", second`:       `odd "one`,
		`nowhere`:                   "",
	} {
		exec(t, admin, `ALTER ROLE `+role+` SET search_path = `+path)
		conn := connect(t, address, Options{Beside: "relay_lanes"})
		if got, err := Schema(t.Context(), conn); err != nil || got != want {
			t.Errorf("search_path %s: the schema is %q, want %q (%v)", path, got, want, err)
		}
	}
	exec(t, admin, `ALTER ROLE `+role+` SET search_path = first, second`)
	conn := connect(t, address, Options{Schema: "second"})
	exec(t, conn, `CREATE TEMP TABLE outbox (n int)`)
	var schema string
	err := conn.QueryRow(t.Context(), `SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'outbox'::regclass`).Scan(&schema)
	if err != nil || schema != "second" {
		t.Errorf("outbox is that of %q (%v)", schema, err)
	}
}

// A Unix socket has no TCP_USER_TIMEOUT.
func TestASessionOnAUnixSocket(t *testing.T) {
	parsed, err := url.Parse(testpg.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := parsed.User.Password()
	address := fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=postgres", socket, parsed.Port(), parsed.User.Username(), password)
	conn := connect(t, address, Options{Primary: true})
	var overTCP bool
	if err := conn.QueryRow(t.Context(), `SELECT inet_server_addr() IS NOT NULL`).Scan(&overTCP); err != nil || overTCP {
		t.Errorf("the session is not on the socket %s (%v)", filepath.Join(socket, ".s.PGSQL."+parsed.Port()), err)
	}
}
