package pg

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table is the table that a lane publishes.
type Table struct {
	// OID tells the table from every other one of its database.
	OID uint32 `json:"oid"`
	// Name is its schema and name, quoted if that is needed, as they were when it was looked at.
	Name string `json:"name"`
}

// String is the table in a diagnosis.
func (t Table) String() string { return fmt.Sprintf("%s (oid %d)", t.Name, t.OID) }

// ErrSwapped ends a session whose table is not the one that it took over. The takeover that follows
// says which it is.
var ErrSwapped = errors.New("the name of the table leads to another table than the one that the lane belongs to")

// OIDOf is the oid of a quoted table, as a constant that Postgres looks up together with the names
// in the statement.
func OIDOf(table string) string {
	return "'" + strings.ReplaceAll(table, "'", "''") + "'::regclass::oid"
}

// Rower is a connection or a transaction on it.
type Rower interface {
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
}
