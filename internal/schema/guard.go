package schema

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/preflight"
)

// LossError refuses to take out migrations whose tables hold rows.
type LossError struct {
	// Tables and how many rows each holds, in words.
	Tables []string
}

// Error names the tables and their rows.
func (e *LossError) Error() string {
	return "this would delete " + strings.Join(e.Tables, " and ") + " permanently"
}

// most is how far rows are counted; a table of a hundred million is not read to its end to say that
// it is not empty.
const most = 1000

// checkLoss returns a *LossError if a table that the plan drops holds rows.
func (m *Migrator) checkLoss(ctx context.Context, plan []Migration) error {
	var full []string
	for _, migration := range plan {
		for _, table := range migration.drops() {
			name := pgx.Identifier{m.schema, table}.Sanitize()
			var exists bool
			if err := m.conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&exists); err != nil {
				return fmt.Errorf("look for table %s: %w", table, preflight.Explain(err))
			}
			if !exists {
				continue
			}
			var rows int
			count := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s LIMIT %d) rows", name, most+1)
			if err := m.conn.QueryRow(ctx, count).Scan(&rows); err != nil {
				return fmt.Errorf("count the rows of %s: %w", table, preflight.Explain(err))
			}
			switch {
			case rows > most:
				full = append(full, fmt.Sprintf("more than %d rows of %s", most, table))
			case rows == 1:
				full = append(full, "1 row of "+table)
			case rows > 1:
				full = append(full, fmt.Sprintf("%d rows of %s", rows, table))
			}
		}
	}
	if full != nil {
		return &LossError{full}
	}
	return nil
}

// guarded is the source of the migrations whose way down first makes sure, inside its own
// transaction, that the tables it drops are empty: rows could arrive after checkLoss.
type guarded struct {
	source.Driver
	drops map[uint][]string
}

func newSource(component Component, allowLoss bool) (source.Driver, error) {
	files, err := iofs.New(component.files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the migrations: %w", err)
	}
	if allowLoss {
		return files, nil
	}
	g := guarded{files, map[uint][]string{}}
	for _, m := range component.Migrations() {
		g.drops[m.Version] = m.drops()
	}
	return g, nil
}

// tableHoldsRows is the SQLSTATE that the guard raises: object not in prerequisite state.
const tableHoldsRows = "55000"

// ReadDown returns the file with the guard before it.
func (g guarded) ReadDown(version uint) (io.ReadCloser, string, error) {
	file, identifier, err := g.Driver.ReadDown(version)
	if err != nil || len(g.drops[version]) == 0 {
		return file, identifier, err
	}
	var guard strings.Builder
	for _, table := range g.drops[version] {
		fmt.Fprintf(&guard, `
LOCK TABLE %[1]s IN ACCESS EXCLUSIVE MODE;
DO $guard$ BEGIN
    IF EXISTS (SELECT FROM %[1]s) THEN
        RAISE EXCEPTION 'table %[1]s holds rows' USING ERRCODE = '%[2]s';
    END IF;
END $guard$;
`, table, tableHoldsRows)
	}
	return prefixed{io.MultiReader(strings.NewReader(guard.String()), file), file}, identifier, nil
}

// prefixed reads something before a file and closes the file.
type prefixed struct {
	io.Reader
	io.Closer
}
