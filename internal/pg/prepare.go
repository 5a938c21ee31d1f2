package pg

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// prepare makes a session what was asked for, and checks that it is. Until the search_path is
// pinned, every name in its statements has its schema: another one may stand before pg_catalog.
func prepare(ctx context.Context, conn *pgconn.PgConn, o Options, settings map[string]string) error {
	if encoding := conn.ParameterStatus("server_encoding"); encoding != "UTF8" && !o.AnyEncoding {
		return &EncodingError{encoding}
	}
	settings = maps.Clone(settings)
	maps.Copy(settings, checked)
	// Servers before 17 refuse this one, so it is no parameter of the start.
	if majorVersion(conn) >= 17 {
		if err := set(ctx, conn, settings, "transaction_timeout", "0"); err != nil {
			return err
		}
	}
	if o.ReadOnly {
		// Not at the start: target_session_attrs=read-write would refuse the session.
		if err := set(ctx, conn, settings, "default_transaction_read_only", "on"); err != nil {
			return err
		}
	}
	schema := o.Schema
	if schema == "" {
		var err error
		if schema, err = findSchema(ctx, conn, o.Beside); err != nil {
			return err
		}
	}
	if schema != "" {
		// pg_catalog comes first unless it is named, and pg_temp too. No temporary table shall
		// be taken for one of the relay's.
		if err := set(ctx, conn, settings, "search_path", pgx.Identifier{schema}.Sanitize()+", pg_temp"); err != nil {
			return err
		}
	}
	return readBack(ctx, conn, settings)
}

// set changes a setting for the session, and notes its value.
func set(ctx context.Context, conn *pgconn.PgConn, settings map[string]string, name, value string) error {
	_, err := query(ctx, conn, `SELECT pg_catalog.set_config($1, $2, false)`, name, value)
	if err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	settings[name] = value
	return nil
}

// findSchema returns the first schema of the search_path that holds a relation, or the first that
// exists; empty for none. It leaves the session with a search_path in which no schema of users
// stands.
func findSchema(ctx context.Context, conn *pgconn.PgConn, relation string) (string, error) {
	path, err := query(ctx, conn, `SELECT s::pg_catalog.text FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS s`)
	if err != nil {
		return "", fmt.Errorf("read the search_path: %w", err)
	}
	var schemas []string
	for _, row := range path {
		if name := string(row[0]); name != "pg_catalog" && !strings.HasPrefix(name, "pg_temp_") {
			schemas = append(schemas, name)
		}
	}
	if len(schemas) == 0 {
		return "", nil
	}
	if relation == "" || len(schemas) == 1 {
		return schemas[0], nil
	}
	if _, err := query(ctx, conn, `SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)`); err != nil {
		return "", fmt.Errorf("set search_path: %w", err)
	}
	holders, err := query(ctx, conn, `SELECT nspname::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE relname = $1::text::name`, relation)
	if err != nil {
		return "", fmt.Errorf("look for the schema of %s: %w", relation, err)
	}
	for _, schema := range schemas {
		if slices.ContainsFunc(holders, func(row [][]byte) bool { return string(row[0]) == schema }) {
			return schema, nil
		}
	}
	return schemas[0], nil
}

// readBack compares the session's settings with what they must be. A setting that the server does
// not know is left out: it is of a later version.
func readBack(ctx context.Context, conn *pgconn.PgConn, settings map[string]string) error {
	names := slices.Sorted(maps.Keys(settings))
	list := "{" + strings.Join(names, ",") + "}" // names of settings need no quotes
	rows, err := query(ctx, conn, `SELECT n, pg_catalog.current_setting(n, true) FROM pg_catalog.unnest($1::pg_catalog.text[]) AS n`, list)
	if err != nil {
		return fmt.Errorf("read the settings of the session: %w", err)
	}
	if len(rows) != len(names) {
		return fmt.Errorf("read the settings of the session: %d of %d came back", len(rows), len(names))
	}
	for _, row := range rows {
		name, got := string(row[0]), string(row[1])
		if row[1] != nil && got != settings[name] {
			return &SettingError{Name: name, Want: settings[name], Got: got}
		}
	}
	return nil
}

// query runs a statement and returns its rows as text.
func query(ctx context.Context, conn *pgconn.PgConn, statement string, args ...string) ([][][]byte, error) {
	params := make([][]byte, len(args))
	for i, arg := range args {
		params[i] = []byte(arg)
	}
	result := conn.ExecParams(ctx, statement, params, nil, nil, nil).Read()
	return result.Rows, result.Err
}

// majorVersion of the server; 0 if it does not say.
func majorVersion(conn *pgconn.PgConn) int {
	text := conn.ParameterStatus("server_version")
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end >= 0 {
		text = text[:end]
	}
	version, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return version
}
