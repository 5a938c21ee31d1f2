package kit

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Script runs a text of many statements as one, as migration tools do.
func Script(t *testing.T, conn *pgx.Conn, text string) {
	t.Helper()
	if _, err := conn.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
}

// SplitAsPsql cuts a script at the semicolons outside of quotes, dollar quotes and comments to the
// end of the line: all the syntax that these files use.
func SplitAsPsql(script string) []string {
	var statements []string
	start, end := 0, ""
	for i := 0; i < len(script); {
		rest := script[i:]
		switch {
		case end != "":
			if strings.HasPrefix(rest, end) {
				i += len(end)
				end = ""
				continue
			}
		case strings.HasPrefix(rest, "--"):
			end = "\n"
		case strings.HasPrefix(rest, "$$"):
			end, i = "$$", i+2
			continue
		case rest[0] == '\'' || rest[0] == '"':
			end, i = rest[:1], i+1
			continue
		case rest[0] == ';':
			statements = append(statements, script[start:i+1])
			start = i + 1
		}
		i++
	}
	return statements
}

// SQLState returns the SQLSTATE of an error, or nothing.
func SQLState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// Number is the one number that a query returns.
func Number(t testing.TB, conn *pgx.Conn, query string) (n int64) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}
