package testpg

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// URL connects to the database "postgres" of the server as its superuser.
func URL(t testing.TB) string {
	t.Helper()
	postgres, err := start()
	if err != nil {
		t.Fatal(err)
	}
	return postgres.URL
}

// Database makes a database, carries the migrations out in it, and returns its URL as the
// superuser. It is dropped when the test ends, with the sessions in it.
func Database(t testing.TB, wanted ...[]migrations.Migration) string {
	t.Helper()
	postgres, err := start()
	if err != nil {
		t.Fatal(err)
	}
	name := nextName()
	t.Cleanup(func() {
		if err := postgres.DropDatabase(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	databaseURL, err := create(t.Context(), postgres, name, script(wanted))
	if err != nil {
		t.Fatal(err)
	}
	return databaseURL
}

// templates are databases in which a script was carried out, by the script.
var templates struct {
	mu    sync.Mutex
	names map[string]string
}

// create makes a database with what the script makes. A copy of a database in which it was carried
// out once is cheaper than carrying it out again.
func create(ctx context.Context, postgres *sandbox.Postgres, name, script string) (databaseURL string, err error) {
	if script == "" {
		return postgres.CreateDatabase(ctx, name)
	}
	templates.mu.Lock()
	defer templates.mu.Unlock()
	template, made := templates.names[script]
	if !made {
		template = fmt.Sprintf("template_of_tests_%d", len(templates.names))
		templateURL, err := postgres.CreateDatabase(ctx, template)
		if err == nil {
			err = execute(ctx, templateURL, script)
		}
		if err != nil {
			return "", errors.Join(err, postgres.DropDatabase(context.WithoutCancel(ctx), template))
		}
		if templates.names == nil {
			templates.names = map[string]string{}
		}
		templates.names[script] = template
	}
	return postgres.CopyDatabase(ctx, name, template)
}

// Example makes a database for an example function: with the migrations, and with what more the
// script makes. It panics if it cannot, because an example cannot report it.
func Example(more string, wanted ...[]migrations.Migration) string {
	ctx := context.Background()
	postgres, err := start()
	must(err)
	databaseURL, err := create(ctx, postgres, nextName(), script(wanted)+more)
	must(err)
	return databaseURL
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("a database for the examples: %v", err))
	}
}

func script(wanted [][]migrations.Migration) string {
	var s strings.Builder
	for _, list := range wanted {
		for _, m := range list {
			s.WriteString(m.Up)
		}
	}
	return s.String()
}

func execute(ctx context.Context, databaseURL, script string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	_, err = conn.PgConn().Exec(ctx, script).ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// Connect opens a session that is closed when the test ends.
func Connect(t testing.TB, databaseURL string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

// Exec carries a script of statements out.
func Exec(t testing.TB, conn *pgx.Conn, script string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), script).ReadAll(); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// As returns the URL of the same database for another login.
func As(t testing.TB, databaseURL, user, password string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(user, password)
	return u.String()
}
