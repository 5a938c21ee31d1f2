package parked

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/preflight"
)

func hintf(try, format string, args ...any) error {
	return hint.New(fmt.Sprintf(format, args...), try)
}

// explain adds a hint to an error of Postgres.
func explain(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		return hint.New(preflight.Explain(err).Error(),
			"GRANT relay_operator TO the login of --database-url; sql/roles.sql makes that role")
	}
	return preflight.Explain(err)
}
