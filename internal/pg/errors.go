package pg

import (
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Refusal is the error of a session that does not fit, or must not be used as it is: a
// SettingError, an EncodingError or a HiddenError. Its text holds neither the connection string nor
// a secret. Waiting does not fix it.
type Refusal interface {
	error
	// Problem says what is wrong and what that means.
	Problem() string
	// Try says what to do about it.
	Try() string
}

// Refused returns the Refusal in err, nil if there is none.
func Refused(err error) Refusal {
	var refusal Refusal
	if errors.As(err, &refusal) {
		return refusal
	}
	return nil
}

// SettingError says that a session does not have a setting that it asked for.
type SettingError struct {
	// Name of the setting, its value as it must be, and as it is.
	Name, Want, Got string
}

// Error returns what is wrong and what to do.
func (e *SettingError) Error() string { return e.Problem() + "; " + e.Try() }

// Problem says which setting differs.
func (e *SettingError) Problem() string {
	return fmt.Sprintf("the session on Postgres has %s = %q and needs %q: a pooler, a login trigger or a superuser's setting of the role "+
		"stands against what was asked for", e.Name, e.Got, e.Want)
}

// Try says what to do.
func (e *SettingError) Try() string {
	return "connect to Postgres itself, and remove the setting from the role, the database or the trigger"
}

// EncodingError says that the database does not store text as UTF-8.
type EncodingError struct {
	// Encoding is server_encoding.
	Encoding string
}

// Error returns what is wrong and what to do.
func (e *EncodingError) Error() string { return e.Problem() + "; " + e.Try() }

// Problem says which encoding the database has.
func (e *EncodingError) Problem() string {
	return fmt.Sprintf("the database has the encoding %s (server_encoding) and the outbox needs UTF8: some text could not be read, "+
		"or would be read as something else", e.Encoding)
}

// Try says what to do.
func (e *EncodingError) Try() string {
	return "move the tables to a database that was made with ENCODING 'UTF8'"
}

// HiddenError says that a policy may hide rows of a table from the role of the session.
type HiddenError struct {
	// Table as it is in SQL, and the Role that does not see all of it.
	Table, Role string
}

// Error returns what is wrong and what to do.
func (e *HiddenError) Error() string { return e.Problem() + "; " + e.Try() }

// Problem says what is hidden from whom.
func (e *HiddenError) Problem() string {
	return fmt.Sprintf("row-level security of %s applies to the role %s: a row that it hides would never be published, "+
		"and be removed as published later", e.Table, e.Role)
}

// Try says what to do.
func (e *HiddenError) Try() string {
	return fmt.Sprintf("ALTER ROLE %s BYPASSRLS as a superuser, or ALTER TABLE %s DISABLE ROW LEVEL SECURITY (for the owner of the table "+
		"NO FORCE ROW LEVEL SECURITY is enough)", pgx.Identifier{e.Role}.Sanitize(), e.Table)
}
