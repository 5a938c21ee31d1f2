package failure

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// ErrOwnStatement is inbox.ErrOwnStatement.
var ErrOwnStatement = errors.New("inbox: a statement of the inbox itself failed, and no handler ran")

// OfStatement is OfDatabase for a statement of our own before any handler has run in its
// transaction: what Postgres says of it is no failure of the message, unless it is about the very
// values that were sent.
func OfStatement(ctx context.Context, err error) error {
	err = OfDatabase(ctx, err)
	state, sent := SQLState(err)
	if !sent || aboutValues(state) || IsUnavailable(err) || ctx.Err() != nil {
		return err
	}
	return Unavailable(fmt.Errorf("%w%s: %w", ErrOwnStatement, hint(state), err))
}

// aboutValues knows the SQLSTATEs that are about what a message holds: data exceptions,
// constraints, what triggers raise, and limits such as the size of an entry of an index.
func aboutValues(state string) bool {
	for _, class := range []string{"22", "23", "54", "P0"} {
		if strings.HasPrefix(state, class) {
			return true
		}
	}
	return false
}

// hint says what helps.
func hint(state string) string {
	switch state {
	case "42501":
		return " (this role lacks a right: run sql/inbox/roles.sql as the owner, and GRANT inbox_consumer)"
	case "42P01", "42703", "42883", "3F000":
		return " (a table of the inbox is missing or old: relay inbox migrate up, or correct the search_path)"
	case LockNotAvailable, "57014":
		return " (a lock or a timeout: see in pg_locks who holds the tables of the inbox, such as VACUUM FULL)"
	}
	return ""
}
