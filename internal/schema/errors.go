package schema

import (
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/preflight"
)

const lockNotAvailable = "55P03"

// DirtyError says that the connection was lost in the middle of a migration, so that it is unknown
// whether Postgres committed it.
type DirtyError struct {
	// Version is the recorded one: that of the migration on its way up, or of the one before on its
	// way down.
	Version int64
}

// Error names the recorded version.
func (e *DirtyError) Error() string {
	return fmt.Sprintf("a migration was cut short at version %d: the connection was lost before its end was recorded", e.Version)
}

func dirtyError(table string, version int64) error {
	return hint.Wrap(&DirtyError{version}, "a migration is there whole or not at all, so look in psql (\\d, \\df) which is "+
		"the newest that is there, and record it: UPDATE %[1]s SET version = NEWEST, dirty = false; "+
		"where none is there: DELETE FROM %[1]s; then run the command again", table)
}

// explainRun puts an error of golang-migrate into the words of the operator.
func explainRun(err error) error {
	pg, ok := pgError(err)
	if !ok {
		if original := original(err); original != nil {
			return fmt.Errorf("the connection failed: %w", original)
		}
		return err
	}
	switch pg.Code {
	case lockNotAvailable:
		return hint.New("another session holds a lock that the migration needs (waited "+lockTimeout+")",
			"again when no long transaction is open; pg_stat_activity and pg_locks show who holds it")
	case tableHoldsRows:
		return hint.New(pg.Message+" that were written meanwhile", "--yes to delete them permanently")
	}
	return preflight.Explain(pg)
}

// original returns what an error of golang-migrate's drivers means, nil if it is no such
// error.
func original(err error) error {
	if byValue, ok := errors.AsType[database.Error](err); ok {
		return byValue.OrigErr
	}
	if byPointer, ok := errors.AsType[*database.Error](err); ok {
		return byPointer.OrigErr
	}
	return nil
}

// pgError finds the error of Postgres; golang-migrate's own error type hides it from errors.As.
func pgError(err error) (*pgconn.PgError, bool) {
	if original := original(err); original != nil {
		err = original
	}
	return errors.AsType[*pgconn.PgError](err)
}

func refused(err error) bool {
	_, ok := pgError(err)
	return ok
}
