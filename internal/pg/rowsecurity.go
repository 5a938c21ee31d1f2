package pg

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// CheckRowSecurity returns a HiddenError if a policy applies to the session's role on one of the
// tables, given as they are in SQL. A table that does not exist is passed over.
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
