package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Exposure says that others than the owner of our tables may create objects in their schema. A
// function or an operator that one of them makes there can come before the server's own in what the
// owner runs, and then it runs with the owner's rights. It can also take a name that a migration or
// a new partition needs.
type Exposure struct {
	// Schema that holds the tables.
	Schema string
	// Roles that may create in it, quoted as SQL needs it; PUBLIC means every role.
	Roles []string
}

// String says what the matter is.
func (e Exposure) String() string {
	return fmt.Sprintf("%s may create objects in schema %s, which could run with the rights of its owner",
		strings.Join(e.Roles, ", "), e.Schema)
}

// Remedy is the statement that ends it.
func (e Exposure) Remedy() string {
	return fmt.Sprintf("REVOKE CREATE ON SCHEMA %s FROM %s;", pgx.Identifier{e.Schema}.Sanitize(), strings.Join(e.Roles, ", "))
}

// creators are the roles with the right to create in a schema, but its owner, a given role and
// superusers.
const creators = `
	SELECT coalesce(array_agg(DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END), '{}')
	  FROM pg_namespace n, aclexplode(n.nspacl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
	 WHERE n.nspname = $1 AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND NOT coalesce(r.rolsuper, false)
	   AND coalesce(r.rolname, '') <> $2`

// Exposed returns the Exposure of a schema, nil if there is none. The owner is who owns the tables,
// or will own them.
func Exposed(ctx context.Context, conn *pgx.Conn, schema, owner string) (*Exposure, error) {
	var roles []string
	if err := conn.QueryRow(ctx, creators, schema, owner).Scan(&roles); err != nil {
		return nil, fmt.Errorf("look up who may create in schema %s: %w", schema, Explain(err))
	}
	if len(roles) == 0 {
		return nil, nil
	}
	return &Exposure{schema, roles}, nil
}

// warnExposed logs the Exposure of each schema that holds one of the tables.
func warnExposed(ctx context.Context, conn *pgx.Conn, cfg Config) error {
	warned := map[string]bool{}
	for _, table := range cfg.Tables {
		var schema, owner string
		name := pgx.Identifier(strings.Split(table, ".")).Sanitize()
		err := conn.QueryRow(ctx, `SELECT n.nspname, pg_get_userbyid(c.relowner) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.oid = to_regclass($1)`, name).Scan(&schema, &owner)
		if err != nil {
			return fmt.Errorf("look up the schema of table %s: %w", table, Explain(err))
		}
		if warned[schema] {
			continue
		}
		warned[schema] = true
		exposed, err := Exposed(ctx, conn, schema, owner)
		if err != nil {
			return err
		}
		if exposed != nil {
			cfg.Logger.Warn("others may create objects beside the outbox", "reason", exposed.String(), "try", exposed.Remedy())
		}
	}
	return nil
}
