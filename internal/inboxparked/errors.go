package inboxparked

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/preflight"
)

// Explain adds a hint to an error of Postgres about the tables of the inbox.
func Explain(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return preflight.Explain(err)
	}
	try := ""
	switch pg.Code {
	case "42501":
		try = "GRANT inbox_operator TO the login of --database-url; sql/inbox/roles.sql makes that role"
	case "42P01", "42703", "42883":
		try = "relay inbox migrate up --database-url … (with --schema where the inbox has a schema of its own)"
	case "55P03":
		try = "again in a moment: a handler works on that message, or a longer --wait"
	default:
		return preflight.Explain(err)
	}
	return hint.New(preflight.Explain(err).Error(), try)
}

// ErrNotThere is wrapped by the errors of Show and Payload where nothing is parked under that name.
var ErrNotThere = errors.New("nothing is parked")

// missing is an error that wraps ErrNotThere and reads as its text alone.
type missing struct{ text string }

func (m missing) Error() string        { return m.text }
func (m missing) Is(target error) bool { return target == ErrNotThere }

func notThere(format string, args ...any) error {
	return hint.Wrap(missing{fmt.Sprintf(format, args...)}, "relay inbox parked list")
}
