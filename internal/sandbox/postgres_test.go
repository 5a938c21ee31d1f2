package sandbox_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/sandbox"
)

func startPostgres(t *testing.T, options sandbox.PostgresOptions) *sandbox.Postgres {
	t.Helper()
	options.Notice = func(line string) { t.Log(line) }
	server, err := sandbox.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func query[T any](t *testing.T, url, statement string, args ...any) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	rows, err := conn.Query(t.Context(), statement, args...)
	if err != nil {
		t.Fatal(err)
	}
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func TestPostgresKeepsCommittedRowsOverACrash(t *testing.T) {
	server := startPostgres(t, sandbox.PostgresOptions{Parameters: map[string]string{"max_connections": "42"}})
	url, err := server.CreateDatabase(t.Context(), `a "quoted" name`)
	if err != nil {
		t.Fatal(err)
	}
	guess, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	guess.Password = "a guess"
	var refused *pgconn.PgError
	if _, err := pgx.ConnectConfig(t.Context(), guess); !errors.As(err, &refused) || refused.Code != "28P01" {
		t.Errorf("another password than the server's: %v", err)
	}
	if got := query[string](t, url, "SHOW max_connections"); got != "42" {
		t.Errorf("max_connections is %s", got)
	}
	if got := query[string](t, url, "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE t AS SELECT 7 AS n"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := conn.Ping(t.Context()); err == nil {
			t.Fatal("a session outlived the crash of its server")
		}
		if err := server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := query[int](t, url, "SELECT n FROM t"); got != 7 {
			t.Fatalf("read %d after the crash", got)
		}
	}
	if err := server.ShutDown(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, url, "SELECT n FROM t"); got != 7 {
		t.Fatalf("read %d after a restart", got)
	}
}

func TestAFetchedVersionIsWhatItSays(t *testing.T) {
	server := startPostgres(t, sandbox.PostgresOptions{Version: "18"})
	if got := query[string](t, server.URL, "SHOW server_version"); !strings.HasPrefix(got, "18.") {
		t.Fatalf("server_version is %s", got)
	}
}

func TestAnUnknownVersionIsAnErrorThatListsTheKnownOnes(t *testing.T) {
	_, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresOptions{Version: "9"})
	if err == nil || !strings.Contains(err.Error(), "14, 15, 16, 17, 18") {
		t.Fatalf("error: %v", err)
	}
}

func TestABadParameterIsAnErrorWithTheServersOwnWords(t *testing.T) {
	_, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresOptions{Parameters: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Fatalf("error: %v", err)
	}
}

func TestACancelledStartLeavesNoFolder(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp")
	before, err := filepath.Glob("/tmp/relay-postgres-*")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sandbox.StartPostgres(ctx, sandbox.PostgresOptions{}); !errors.Is(err, context.Canceled) {
		t.Fatalf("error: %v, want a cancelled context", err)
	}
	after, err := filepath.Glob("/tmp/relay-postgres-*")
	if err != nil {
		t.Fatal(err)
	}
	if len(after) > len(before) {
		t.Fatalf("folders before %q, after %q", before, after)
	}
}
