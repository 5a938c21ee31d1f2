package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// tableQuery looks at what order, visibility and retention rest on: the defaults of three columns,
// and who may write something else into them. The owner of the table and superusers may do
// anything, and roles of Postgres itself count as their members. Roles are asked for by oid: a name
// is an error if the role is dropped meanwhile, in whichever database of the server.
const tableQuery = `
WITH t AS (SELECT oid, relowner FROM pg_class WHERE oid = $1::text::regclass),
writers AS (
    SELECT name, string_agg(col, ', ' ORDER BY col) AS columns, name = 'PUBLIC' AS everybody
      FROM t, unnest(ARRAY['id', 'xact_id', 'created_at']) AS col,
           (SELECT rolname::text, oid FROM pg_roles WHERE NOT rolsuper AND rolname !~ '^pg_'
             UNION ALL SELECT 'PUBLIC', 0) AS roles (name, oid)
     WHERE roles.oid <> t.relowner
       AND (has_column_privilege(roles.oid, t.oid, col, 'INSERT') OR has_column_privilege(roles.oid, t.oid, col, 'UPDATE'))
     GROUP BY name
)
SELECT (SELECT attidentity = 'a' FROM pg_attribute WHERE attrelid = t.oid AND attname = 'id'),
       EXISTS (SELECT FROM pg_attribute JOIN pg_constraint ON contypid = atttypid
                WHERE attrelid = t.oid AND attname = 'xact_id' AND contype = 'c'
                  AND pg_get_constraintdef(pg_constraint.oid) ~ 'pg_current_xact_id')
       AND EXISTS (SELECT FROM pg_trigger WHERE tgrelid = t.oid AND tgname = 'outbox_own_transaction' AND tgenabled = 'A'),
       ARRAY(SELECT name || ' (' || columns || ')' FROM writers
              WHERE everybody OR NOT EXISTS (SELECT FROM writers WHERE everybody) ORDER BY name)
  FROM t`

// namedWriters is how many roles a warning names.
const namedWriters = 10

// TableWarnings says what about an outbox table, with its schema if it has one, is not as the
// migrations and roles.sql make it, and endangers its rows. Each is a sentence or two.
func TableWarnings(ctx context.Context, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, table string) ([]string, error) {
	quoted := pgx.Identifier(strings.Split(table, ".")).Sanitize()
	var always, guarded *bool
	var writers []string
	if err := q.QueryRow(ctx, tableQuery, quoted).Scan(&always, &guarded, &writers); err != nil {
		return nil, fmt.Errorf("look at the columns of %s: %w", table, Explain(err))
	}
	var warnings []string
	if len(writers) > 0 {
		names := strings.Join(writers[:min(len(writers), namedWriters)], ", ")
		if more := len(writers) - namedWriters; more > 0 {
			names += fmt.Sprintf(" and %d more", more)
		}
		warnings = append(warnings, fmt.Sprintf("columns of %s may be written by roles beside its owner: %s; the order of events and their "+
			"retention rest on the defaults of these columns; REVOKE INSERT, UPDATE on the table and GRANT INSERT on the other "+
			"columns, as roles.sql does",
			table, names))
	}
	if guarded == nil || !*guarded {
		warnings = append(warnings, fmt.Sprintf("%s does not refuse rows with the xact_id of another transaction, because the trigger "+
			"outbox_own_transaction or the check of the column's type is missing or disabled; such a row of the past is never "+
			"published, and retention deletes it; add them as 0001_outbox.up.sql does", table))
	}
	if always == nil || !*always {
		warnings = append(warnings, fmt.Sprintf("column id of %s is not GENERATED ALWAYS AS IDENTITY, so writers may choose a place in the "+
			"order of events; ALTER TABLE %s ALTER COLUMN id SET GENERATED ALWAYS", table, quoted))
	}
	return warnings, nil
}
