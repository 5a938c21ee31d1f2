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

// tables are what business the examples and tests have: accounts with some money, and a list of effects.
const tables = `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO accounts VALUES ('alice', 100), ('bob', 0);
CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg text NOT NULL, tx text NOT NULL DEFAULT txid_current());`

// URL returns the connection string of a new schema with the inbox, the outbox, accounts (id, balance) of alice and bob, and an
// empty table effects (msg). The server is the one that RELAY_TEST_DATABASE_URL names, or one started for the process; Close ends it.
// It panics where there is none, since an example has nobody to report to.
func URL() string {
	return place{admin(), "inbox_" + strings.ToLower(rand.Text())}.make()
}

func admin() string {
	mu.Lock()
	defer mu.Unlock()
	if external := os.Getenv("RELAY_TEST_DATABASE_URL"); external != "" {
		return external
	}
	if server == nil {
		started, err := sandbox.StartPostgres(context.Background(), sandbox.PostgresOptions{Parameters: map[string]string{
			"fsync": "off", "max_connections": "300",
		}})
		must(err)
		server = started
	}
	return server.URL
}

func (p place) make() string {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.admin)
	must(err)
	defer func() { must(conn.Close(ctx)) }()
	script := "CREATE SCHEMA " + p.schema + "; SET search_path = " + p.schema + ";\n"
	for _, m := range append(migrations.List(), migrations.Inbox()...) {
		script += m.Up
	}
	_, err = conn.Exec(ctx, script+tables, pgx.QueryExecModeSimpleProtocol)
	must(err)
	mu.Lock()
	schemas = append(schemas, p)
	mu.Unlock()
	u, err := url.Parse(p.admin)
	must(err)
	q := u.Query()
	q.Set("search_path", p.schema)
	u.RawQuery = q.Encode()
	return u.String()
}

// Close removes the schemas of a server of somebody else's, or stops the one that URL started. It returns what went wrong.
func Close() error {
	mu.Lock()
	defer mu.Unlock()
	if server != nil {
		stopped := server
		server, schemas = nil, nil
		return stopped.Stop()
	}
	ctx := context.Background()
	for _, p := range schemas {
		conn, err := pgx.Connect(ctx, p.admin)
		if err != nil {
			return fmt.Errorf("remove schema %s: %w", p.schema, err)
		}
		if _, err := conn.Exec(ctx, "DROP SCHEMA "+p.schema+" CASCADE"); err != nil {
			return fmt.Errorf("remove schema %s: %w", p.schema, err)
		}
		if err := conn.Close(ctx); err != nil {
			return fmt.Errorf("remove schema %s: %w", p.schema, err)
		}
	}
	schemas = nil
	return nil
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("a database for the examples: %v", err))
	}
}
