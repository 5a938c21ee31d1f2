package relay

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/pipeline"
)

// login makes a role that is no superuser, with all rights on the outbox, and returns its name and
// its connection string.
func (r *rig) login() (role, address string) {
	r.t.Helper()
	parsed := parse(r.t, r.url)
	role = "login_" + strings.TrimPrefix(parsed.Path, "/")
	exec(r.t, r.conn, `CREATE ROLE `+role+` LOGIN PASSWORD 'secret'`)
	r.t.Cleanup(func() {
		exec(r.t, r.conn, `DROP OWNED BY `+role)
		exec(r.t, r.conn, `DROP ROLE `+role)
	})
	exec(r.t, r.conn, `GRANT ALL ON ALL TABLES IN SCHEMA public TO `+role)
	parsed.User = url.UserPassword(role, "secret")
	return role, parsed.String()
}

// hostile are settings that a role may have for reasons of its own. Each breaks some statement of
// the relay, or changes what it sees, unless the relay's sessions have their own value.
var hostile = map[string]string{
	"default_transaction_isolation":       "serializable",
	"default_transaction_read_only":       "on",
	"default_transaction_deferrable":      "on",
	"synchronous_commit":                  "off",
	"statement_timeout":                   "1ms",
	"lock_timeout":                        "1ms",
	"idle_in_transaction_session_timeout": "1ms",
	"idle_session_timeout":                "10ms",
	"client_encoding":                     "LATIN1",
	"DateStyle":                           "SQL, DMY",
	"IntervalStyle":                       "sql_standard",
	"TimeZone":                            "Asia/Kathmandu",
	"bytea_output":                        "escape",
	"extra_float_digits":                  "-15",
	"standard_conforming_strings":         "off",
	"array_nulls":                         "off",
	"transform_null_equals":               "on",
	"plan_cache_mode":                     "force_generic_plan",
	"enable_indexscan":                    "off",
	"enable_tidscan":                      "off",
	"search_path":                         "shadow, pg_catalog, public",
}

// shadow fills the schema of the hostile search_path: a table like the outbox, and functions and an
// operator like those of Postgres that the relay's statements use.
const shadow = `
CREATE SCHEMA shadow;
CREATE TABLE shadow.outbox (LIKE public.outbox INCLUDING ALL);
CREATE FUNCTION shadow.pg_visible_in_snapshot(xid8, pg_snapshot) RETURNS bool LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION shadow.pg_current_snapshot() RETURNS pg_snapshot LANGUAGE sql AS $$SELECT '900000:900000:'::pg_snapshot$$;
CREATE FUNCTION shadow.xid_ge(xid8, xid8) RETURNS bool LANGUAGE sql AS 'SELECT false';
CREATE OPERATOR shadow.>= (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = shadow.xid_ge);
GRANT USAGE ON SCHEMA shadow TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA shadow TO PUBLIC`

// A role's settings are somebody else's. Whatever they are, each row is published once and in
// order, a row that is refused is parked with those behind it and comes back, and published rows
// are removed.
func TestTheRelayWorksWhateverTheSettingsOfItsRole(t *testing.T) {
	t.Parallel()
	settings := maps.Clone(hostile)
	if atLeast(t, 17) {
		settings["transaction_timeout"] = "1ms"
	}
	cases := map[string]map[string]string{"all of them": settings}
	for name, value := range settings {
		cases[name] = map[string]string{name: value}
	}
	for name, settings := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			exec(t, r.conn, shadow)
			role, address := r.login()
			for name, value := range settings {
				if name != "search_path" { // is a list
					value = "'" + value + "'"
				}
				exec(t, r.conn, fmt.Sprintf(`ALTER ROLE %s SET %s = %s`, role, name, value))
			}
			r.publishParkAndRemove(address)
		})
	}
}

func atLeast(t *testing.T, version int) bool {
	t.Helper()
	return query[int](t, open(t, newDatabase(t)), `SELECT current_setting('server_version_num')::int`) >= version*10_000
}

// publishParkAndRemove runs a relay as the role of the address through all that it does with rows.
func (r *rig) publishParkAndRemove(address string) {
	r.t.Helper()
	cfg := r.config()
	cfg.DatabaseURL, cfg.Retention = address, RemoveAtOnce
	var mended atomic.Bool
	cfg.Check = func(record *kgo.Record) error {
		if string(record.Key) == "größe" && !mended.Load() {
			return errors.New("not yet: ü")
		}
		return nil
	}
	want := r.insertOrders(20, "ö")
	insert(r.t, r.conn, "größe", "1")
	s := r.start(cfg)
	s.awaitRows(r.t, 20)
	insert(r.t, r.conn, "größe", "2")
	insert(r.t, r.conn, "o-0", "late")
	want["o-0"] = append(want["o-0"], "late")
	s.awaitRows(r.t, 21)
	s.await(r.t, "two rows are parked", func(*recorder) bool { return len(r.parkedRows()["größe"]) == 2 })
	mended.Store(true)
	if got := r.ask("retry", "größe", nil); got != "published 2" {
		r.t.Errorf("the retry ended with %q", got)
	}
	want["größe"] = []string{"1", "2"}
	s.await(r.t, "all rows are removed", func(rec *recorder) bool {
		return rec.removed().Rows >= 23
	})
	s.stop()
	r.expect(orders, want)
	r.expectParked(nil)
	if left := query[int](r.t, r.conn, `SELECT count(*) FROM public.outbox`); left != 0 {
		r.t.Errorf("%d published rows are still there", left)
	}
}

// With a snapshot that is as old as the transaction, a read that waits for the rewrite of a table
// finds the table empty afterwards: every row then seems to be newer than the snapshot, and the
// snapshot says that all of them are published.
func TestATableIsRewrittenWhileItIsRead(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			role, address := r.login()
			exec(t, r.conn, fmt.Sprintf(`ALTER ROLE %s SET default_transaction_isolation = '%s'`, role, level))
			cfg := r.config()
			cfg.DatabaseURL = address
			held, release, hold := make(chan struct{}), make(chan struct{}), atomic.Bool{}
			cfg.Step = func(step pipeline.Step) {
				if step == pipeline.BeforeRead && hold.CompareAndSwap(true, false) {
					close(held)
					<-release
				}
			}
			s := r.start(cfg)
			want := r.insertOrders(5, "before")
			s.awaitRows(t, 5)
			hold.Store(true)
			<-held
			want = merge(want, r.insertOrders(5, "while nobody reads"))
			exec(t, r.conn, `BEGIN; ALTER TABLE outbox ALTER COLUMN created_at TYPE timestamptz(3)`)
			close(release)
			eye := open(t, r.url)
			s.await(t, "the reader waits for the table", func(*recorder) bool {
				return query[bool](t, eye, `SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'outbox'::regclass AND NOT granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
			})
			exec(t, r.conn, `COMMIT`)
			insert(t, r.conn, "end", "end")
			r.awaitEnd(orders)
			s.stop()
			r.expect(orders, merge(want, theEnd))
		})
	}
}

// Rows that a policy hides would never be published, and be removed as published later.
func TestRowsThatAPolicyHidesHaltTheLane(t *testing.T) {
	t.Parallel()
	for name, owner := range map[string]bool{"from a role with rights": false, "from the owner": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			role, address := r.login()
			exec(t, r.conn, `CREATE POLICY part ON outbox USING (aggregate_id <> 'o-1'); ALTER TABLE outbox ENABLE ROW LEVEL SECURITY`)
			if owner {
				exec(t, r.conn, `GRANT ALL ON SCHEMA public TO `+role+`; ALTER TABLE outbox OWNER TO `+role+
					`; ALTER TABLE outbox FORCE ROW LEVEL SECURITY`)
				defer exec(t, r.conn, `ALTER TABLE outbox OWNER TO postgres`)
			}
			want := r.insertOrders(20, "v")
			cfg := r.config()
			cfg.DatabaseURL, cfg.Retention = address, RemoveAtOnce
			s := r.start(cfg)
			reason := s.awaitState(t, Waiting)
			for _, says := range []string{"row-level security", "outbox", role, "BYPASSRLS"} {
				if !strings.Contains(reason, says) {
					t.Errorf("the lane waits for %q, which does not say %q", reason, says)
				}
			}
			if got := len(r.records(orders, true)); got != 0 {
				t.Errorf("%d records were sent", got)
			}
			if left := query[int](t, r.conn, `SELECT count(*) FROM outbox`); left != 20 {
				t.Errorf("%d of 20 rows are left", left)
			}
			exec(t, r.conn, `ALTER TABLE outbox DISABLE ROW LEVEL SECURITY`)
			s.awaitRows(t, 20)
			// And once more, under a relay that runs.
			exec(t, r.conn, `ALTER TABLE outbox ENABLE ROW LEVEL SECURITY`)
			want = merge(want, r.insertOrders(20, "w"))
			s.await(t, "the lane waits again", func(rec *recorder) bool {
				return rec.state().State == Waiting && strings.Contains(rec.state().Reason, "BYPASSRLS")
			})
			exec(t, r.conn, `ALTER ROLE `+role+` BYPASSRLS`)
			s.awaitRows(t, 40)
			s.stop()
			r.expect(orders, want)
		})
	}
}

// Text of another encoding could not be read, or would come to Kafka as something else.
func TestALaneWaitsWhereTheDatabaseIsNotUTF8(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	name := strings.TrimPrefix(parse(t, r.url).Path, "/") + "_ascii"
	exec(t, r.conn, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`)
	t.Cleanup(func() { exec(t, r.conn, `DROP DATABASE `+name+` WITH (FORCE)`) })
	address := parse(t, r.url)
	address.Path = "/" + name
	cfg := r.config()
	cfg.DatabaseURL = address.String()
	s := r.start(cfg)
	reason := s.awaitState(t, Waiting)
	if !strings.Contains(reason, "encoding SQL_ASCII") || !strings.Contains(reason, "ENCODING 'UTF8'") {
		t.Errorf("the lane waits for %q", reason)
	}
}

func parse(t testing.TB, address string) *url.URL {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}
