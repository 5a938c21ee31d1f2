package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/hint"
)

const redacted = "xxxxx"

var (
	// A password may itself hold '@', so everything up to the last '@' of the word goes.
	userinfo = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://[^:/?#\s]*):\S*@`)
	// Covers password, sslpassword and their like, as keyword, query parameter or JSON-less text.
	keyword = regexp.MustCompile(`(?i)(password|passwd|secret)(\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s&]+)`)
)

// Redact replaces the passwords of connection strings inside text, whatever their form.
func Redact(text string) string {
	text = userinfo.ReplaceAllString(text, "${1}:"+redacted+"@")
	return keyword.ReplaceAllString(text, "${1}${2}"+redacted)
}

// checkDatabaseURL reports what is wrong with a connection string without a word of it: the parts
// that fail to parse are often the password itself.
func checkDatabaseURL(text string) error {
	const try = "write postgres://USER:PASSWORD@HOST:5432/DATABASE; in the password, percent-encode @ / ? # % and spaces"
	if isURL(text) {
		if _, err := url.Parse(text); err != nil {
			return hint.New("database-url: not a valid URL", try)
		}
	} else if !strings.Contains(text, "=") {
		return hint.New("database-url: neither a URL nor keyword=value pairs", try)
	}
	_, err := pgconn.ParseConfig(text)
	if err == nil {
		return nil
	}
	if parse, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		switch text := parse.Error(); {
		case strings.Contains(text, "failed to parse as"):
			// Its detail quotes the word that it stumbles over, which may be part of a password.
			return hint.New("database-url: not valid keyword=value pairs", "put a value with spaces in single quotes, or "+try)
		case strings.Contains(text, "failed to configure TLS"):
			return hint.New("database-url: "+Redact(withoutSource(parse.Error())), "check sslmode, sslrootcert, sslcert and sslkey in it")
		}
		return hint.Wrap(fmt.Errorf("database-url: %s", Redact(withoutSource(parse.Error()))), "%s", try)
	}
	return hint.New("database-url: not a valid connection string", try)
}

// withoutSource cuts the connection string, which pgx quotes in backticks, from the error.
func withoutSource(text string) string {
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		return text[i+len("`: "):]
	}
	return "not a valid connection string"
}

func isURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// withSchema adds the schema to the connection string as its search_path.
func withSchema(text, schema string) string {
	if schema == "" {
		return text
	}
	return withParameter(text, "search_path", pgx.Identifier{schema}.Sanitize())
}

// withParameter sets a parameter of the connection string, in place of the value that it has there.
func withParameter(text, name, value string) string {
	if text == "" {
		return text
	}
	if !isURL(text) {
		escaped := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)
		return text + " " + name + "='" + escaped + "'"
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return text // another fault, reported by checkDatabaseURL
	}
	// Postgres reads %20 as a space and leaves a plus as it is, so the query is not decoded and
	// encoded as a form.
	query := slices.DeleteFunc(strings.Split(parsed.RawQuery, "&"), func(parameter string) bool {
		return parameter == "" || strings.HasPrefix(parameter, name+"=")
	})
	escaped := strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
	parsed.RawQuery = strings.Join(append(query, name+"="+escaped), "&")
	return parsed.String()
}
