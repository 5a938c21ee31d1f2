package pg

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// HiddenError says that a policy may hide rows of a table from the role of the session.
type HiddenError struct {
	// Table, and the Role that does not see all of it.
	Table, Role string
}

// Error returns what is wrong and what to do.
func (e *HiddenError) Error() string {
	table, role := e.Table, pgx.Identifier{e.Role}.Sanitize()
	return fmt.Sprintf("row-level security of %s applies to the role %s: a row that it hides would never be published, and be removed "+
		"as published later; ALTER ROLE %s BYPASSRLS as a superuser, or turn it off with ALTER TABLE %s DISABLE ROW LEVEL SECURITY "+
		"(for the owner of the table NO FORCE ROW LEVEL SECURITY is enough)", table, e.Role, role, table)
}

// CheckRowSecurity returns a HiddenError if a policy applies to the session's role on one of the tables, given as they stand
// in SQL. A table that does not exist is passed over.
func CheckRowSecurity(ctx context.Context, conn *pgx.Conn, tables ...string) error {
	var hidden HiddenError
	err := conn.QueryRow(ctx, `SELECT t, current_user FROM unnest($1::text[]) AS t WHERE row_security_active(to_regclass(t)) LIMIT 1`,
		tables).Scan(&hidden.Table, &hidden.Role)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for row-level security: %w", err)
	}
	return &hidden
}
