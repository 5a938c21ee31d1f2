//go:build long

package relay

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
)

// stormRole is the login of the relays in a storm: its settings change, and those of the writers do
// not.
const stormRole = "storm"

// hostileSettings are settings of a role that a service may well want, and that the relay cannot
// work with.
var hostileSettings = []string{
	"default_transaction_isolation = 'repeatable read'",
	"default_transaction_isolation = 'serializable'",
	"default_transaction_read_only = on",
	"default_transaction_deferrable = on",
	"row_security = on",
	"statement_timeout = '5ms'",
	"lock_timeout = '1ms'",
	"idle_in_transaction_session_timeout = '1ms'",
	"idle_session_timeout = '50ms'",
	"synchronous_commit = off",
	"client_encoding = 'LATIN1'",
	"DateStyle = 'German'",
	"TimeZone = 'Asia/Kathmandu'",
	"bytea_output = 'escape'",
	"standard_conforming_strings = off",
	"enable_indexscan = off",
	"enable_seqscan = on",
	"plan_cache_mode = force_generic_plan",
}

// stormLogin makes the role of the relays and returns the URL that logs in as it.
func stormLogin(t testing.TB, databaseURL string) string {
	t.Helper()
	address, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := address.User.Password()
	kit.Execute(t, databaseURL, fmt.Sprintf("CREATE ROLE %s SUPERUSER LOGIN PASSWORD '%s'", stormRole, password))
	address.User = url.UserPassword(stormRole, password)
	return address.String()
}

// strikeSurroundings changes what the relay stands on: the settings of its role, its sessions, the
// table.
func (s *storm) strikeSurroundings() {
	strikes := []struct {
		name string
		run  func(context.Context, *pgx.Conn) error
	}{
		{"role settings turned hostile", turnHostile},
		{"sessions of the relays ended", endSessions},
		{"table rewritten", rewriteTable},
		{"table vacuumed full", kit.Statements("VACUUM FULL outbox")},
		{"relay_lanes vacuumed full", kit.Statements("VACUUM FULL relay_lanes")},
		{"table renamed for a while", renameTable},
		{"table replaced for a while", replaceTable},
	}
	strike := strikes[rand.IntN(len(strikes))]
	s.counts[strike.name]++
	onDatabase(s.t, s.writersURL, strike.name, strike.run)
}

// onDatabase runs a strike on a connection that gives up a lock after 3 seconds, and tries again
// until it has happened.
func onDatabase(t testing.TB, databaseURL, name string, strike func(context.Context, *pgx.Conn) error) {
	t.Helper()
	var err error
	kit.Eventually(t, time.Minute, name, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		conn, connecting := pgx.Connect(ctx, databaseURL)
		if connecting != nil {
			err = connecting
			return false
		}
		defer kit.CloseQuietly(conn)
		if err = kit.Statements("SET lock_timeout = '3s'", "SET synchronous_commit = on")(ctx, conn); err == nil {
			err = strike(ctx, conn)
		}
		if err != nil {
			t.Logf("%s: %v; once more", name, err)
		}
		return err == nil
	})
}

// turnHostile gives the role some of the hostile settings, and every session of it ends, so that
// the next ones have them.
func turnHostile(ctx context.Context, conn *pgx.Conn) error {
	change := []string{"ALTER ROLE " + stormRole + " RESET ALL"}
	for _, i := range rand.Perm(len(hostileSettings))[:1+rand.IntN(6)] {
		change = append(change, "ALTER ROLE "+stormRole+" SET "+hostileSettings[i])
	}
	if err := kit.Statements(change...)(ctx, conn); err != nil {
		return err
	}
	return endSessions(ctx, conn)
}

func endSessions(ctx context.Context, conn *pgx.Conn) error {
	return kit.Statements("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+stormRole+"'")(ctx, conn)
}

// rewriteTable writes every row again. A reader with an older snapshot sees an empty table.
func rewriteTable(ctx context.Context, conn *pgx.Conn) error {
	return kit.Statements("ALTER TABLE outbox ALTER COLUMN created_at TYPE timestamptz USING created_at + interval '0'")(ctx, conn)
}

// renameTable takes the table's name away for a moment. Writers fail meanwhile.
func renameTable(ctx context.Context, conn *pgx.Conn) error {
	if err := kit.Statements("ALTER TABLE outbox RENAME TO outbox_aside")(ctx, conn); err != nil {
		return err
	}
	kit.Wait(ctx, time.Duration(rand.Int64N(int64(2*time.Second))))
	return renameBack(ctx, conn, "ALTER TABLE outbox_aside RENAME TO outbox")
}

// replaceTable puts an empty table in the place of the outbox for a moment, in which writers cannot
// write: rows that were committed and not read yet are in the other one.
func replaceTable(ctx context.Context, conn *pgx.Conn) error {
	err := kit.Statements(`BEGIN;
ALTER TABLE outbox RENAME TO outbox_aside;
CREATE TABLE outbox (LIKE outbox_aside INCLUDING ALL, CONSTRAINT nothing_fits CHECK (false));
COMMIT`)(ctx, conn)
	if err != nil {
		_, _ = conn.Exec(ctx, "ROLLBACK") // of what failed; the error that counts is returned
		return err
	}
	kit.Wait(ctx, time.Duration(rand.Int64N(int64(2*time.Second))))
	return renameBack(ctx, conn, "BEGIN; DROP TABLE outbox; ALTER TABLE outbox_aside RENAME TO outbox; COMMIT")
}

// renameBack repeats a statement until it is done: a storm in which the table stays away shows
// nothing.
func renameBack(ctx context.Context, conn *pgx.Conn, statement string) error {
	for {
		_, err := conn.Exec(ctx, statement)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
	}
}
