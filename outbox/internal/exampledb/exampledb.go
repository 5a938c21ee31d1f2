package exampledb

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

var (
	mu      sync.Mutex
	server  *sandbox.Postgres
	schemas []place
)

type place struct{ admin, schema string }

// URL returns the connection string of a new, empty schema with the outbox and a table orders (id, state). The server is
// the one that RELAY_TEST_DATABASE_URL names, or one started for the process; Close ends it. It panics where there is none,
// since an example has nobody to report to.
func URL() string {
	mu.Lock()
	defer mu.Unlock()
	ctx := context.Background()
	admin := os.Getenv("RELAY_TEST_DATABASE_URL")
	if admin == "" {
		if server == nil {
			started, err := sandbox.StartPostgres(ctx, sandbox.PostgresOptions{Parameters: map[string]string{"fsync": "off"}})
			must(err)
			server = started
		}
		admin = server.URL
	}
	schema := "example_" + strings.ToLower(rand.Text())
	conn, err := pgx.Connect(ctx, admin)
	must(err)
	defer func() { must(conn.Close(ctx)) }()
	script := "CREATE SCHEMA " + schema + "; SET search_path = " + schema + ";\n"
	for _, m := range migrations.List() {
		script += m.Up
	}
	script += "CREATE TABLE orders (id text PRIMARY KEY, state text NOT NULL);\nINSERT INTO orders VALUES ('42', 'new')"
	_, err = conn.Exec(ctx, script, pgx.QueryExecModeSimpleProtocol)
	must(err)
	schemas = append(schemas, place{admin, schema})
	u, err := url.Parse(admin)
	must(err)
	q := u.Query()
	q.Set("search_path", schema)
	u.RawQuery = q.Encode()
	return u.String()
}

// Close removes the schemas and stops the server that URL started. It returns what went wrong.
func Close() error {
	mu.Lock()
	defer mu.Unlock()
	ctx := context.Background()
	for _, c := range schemas {
		conn, err := pgx.Connect(ctx, c.admin)
		if err != nil {
			return fmt.Errorf("remove schema %s: %w", c.schema, err)
		}
		if _, err := conn.Exec(ctx, "DROP SCHEMA "+c.schema+" CASCADE"); err != nil {
			return fmt.Errorf("remove schema %s: %w", c.schema, err)
		}
		if err := conn.Close(ctx); err != nil {
			return fmt.Errorf("remove schema %s: %w", c.schema, err)
		}
	}
	schemas = nil
	if server == nil {
		return nil
	}
	stopped := server
	server = nil
	return stopped.Stop()
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("a database for the examples: %v", err))
	}
}
