package pg

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Database opens all sessions of one owner: on the primary, and in one schema.
type Database struct {
	// URL returns the connection string of each new session, because passwords change while the
	// relay runs.
	URL func() (string, error)
	// Beside is the relation whose schema is that of the sessions.
	Beside string

	schema string
}

// ConnectFirst opens a session in the schema that the search_path leads to now. Connect opens the
// later ones in the same schema, whatever becomes of the role's search_path meanwhile.
func (d *Database) ConnectFirst(ctx context.Context, options Options) (*pgx.Conn, error) {
	d.schema = "" // the tables may have moved since the last time
	conn, err := d.Connect(ctx, options)
	if err != nil {
		return nil, err
	}
	if d.schema, err = Schema(ctx, conn); err != nil {
		Close(conn)
		return nil, err
	}
	return conn, nil
}

// Connect opens a session on the primary. There is no pool: each session has one user
// and holds state.
func (d *Database) Connect(ctx context.Context, options Options) (*pgx.Conn, error) {
	url, err := d.URL()
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	options.Primary, options.Schema, options.Beside = true, d.schema, d.Beside
	conn, err := Connect(ctx, url, options)
	if refused := Refused(err); refused != nil {
		err = refused
	}
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	return conn, nil
}

// QuoteTable quotes "table" or "schema.table".
func QuoteTable(table string) string {
	return pgx.Identifier(strings.Split(table, ".")).Sanitize()
}
