package access

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay"
	migrations "github.com/outbox-relay/relay/sql"
)

// Grant gives one role one privilege on one object.
type Grant struct {
	// Privilege is a word of Postgres, such as SELECT.
	Privilege string `json:"privilege"`
	// Columns bound the privilege; empty for the whole object.
	Columns []string `json:"columns,omitempty"`
	// Kind of the object: table, function or schema.
	Kind string `json:"object_type"`
	// Object is the name of the object, with the types of its arguments if it is a function;
	// empty for the schema that the search_path decides.
	Object string `json:"object"`
	// Role that gets the privilege.
	Role string `json:"role"`
	// OnlyWith is the function without which roles.sql does not give the privilege; empty if it
	// always does.
	OnlyWith string `json:"only_with,omitempty"`
}

// The roles of roles.sql that the relay and the services have.
const (
	RelayRole  = "relay"
	WriterRole = "outbox_writer"
)

var sqlRole = regexp.MustCompile(`CREATE ROLE (\w+)`)

// Roles returns every role that roles.sql makes.
func Roles() []string {
	var roles []string
	for _, m := range sqlRole.FindAllStringSubmatch(migrations.Roles, -1) {
		roles = append(roles, m[1])
	}
	return roles
}

// outboxTable is the table that roles.sql is about.
const outboxTable = "outbox"

// String returns the statement of SQL.
func (g Grant) String() string {
	privilege, kind := g.Privilege, ""
	if len(g.Columns) > 0 {
		privilege += " (" + strings.Join(g.Columns, ", ") + ")"
	}
	if g.Kind != "table" {
		kind = strings.ToUpper(g.Kind) + " "
	}
	return fmt.Sprintf("GRANT %s ON %s%s TO %s;", privilege, kind, g.Object, g.Role)
}

// Grants returns what the roles hold, as roles.sql gives it, for the schema and for the tables of
// every lane.
func Grants(schema string, lanes []relay.Lane) []Grant {
	grants := parseGrants(migrations.Roles)
	for i := range grants {
		if grants[i].Kind == "schema" {
			grants[i].Object = ""
			if schema != "" {
				grants[i].Object = pgx.Identifier{schema}.Sanitize()
			}
		}
	}
	return append(grants, FurtherGrants(lanes)...)
}

// FurtherGrants returns the grants on the tables of lanes that roles.sql does not know: those on
// the table outbox, on each of them.
func FurtherGrants(lanes []relay.Lane) []Grant {
	var further []Grant
	for _, lane := range lanes {
		if lane.Table == outboxTable {
			continue
		}
		parts := strings.Split(lane.Table, ".")
		if len(parts) == 2 {
			schema := pgx.Identifier{parts[0]}.Sanitize()
			for _, role := range []string{WriterRole, RelayRole} {
				further = append(further, Grant{Privilege: "USAGE", Kind: "schema", Object: schema, Role: role})
			}
		}
		for _, g := range parseGrants(migrations.Roles) {
			if g.Kind == "table" && g.Object == outboxTable {
				g.Object = pgx.Identifier(parts).Sanitize()
				further = append(further, g)
			}
		}
	}
	return further
}

var (
	sqlComment = regexp.MustCompile(`--[^\n]*`)
	sqlBlock   = regexp.MustCompile(`(?s)DO \$\$(.*?)\$\$;`)
	sqlOnlyIf  = regexp.MustCompile(`IF to_regprocedure\('([^']+)'\)`)
	sqlGrant   = regexp.MustCompile(`GRANT\s+([^;']+?)\s+ON\s+(?:(FUNCTION|SCHEMA)\s+)?([^;']+?)\s+TO\s+([^;']+?)\s*[;']`)
)

// parseGrants reads the GRANT statements of a script that is written as roles.sql is: those in a
// block that asks for a function are given only if that function exists.
func parseGrants(script string) []Grant {
	script = sqlComment.ReplaceAllString(script, "")
	var conditional []Grant
	script = sqlBlock.ReplaceAllStringFunc(script, func(block string) string {
		m := sqlOnlyIf.FindStringSubmatch(block)
		if m == nil {
			return block
		}
		for _, grant := range parseStatements(block) {
			grant.OnlyWith = m[1]
			conditional = append(conditional, grant)
		}
		return ""
	})
	return append(parseStatements(script), conditional...)
}

func parseStatements(script string) []Grant {
	var grants []Grant
	for _, m := range sqlGrant.FindAllStringSubmatch(script, -1) {
		kind := strings.ToLower(m[2])
		if kind == "" {
			kind = "table"
		}
		for _, role := range splitList(m[4]) {
			for _, object := range splitList(m[3]) {
				for _, privilege := range splitList(m[1]) {
					name, columns, bounded := strings.Cut(privilege, "(")
					grant := Grant{Privilege: strings.TrimSpace(name), Kind: kind, Object: object, Role: role}
					if bounded {
						grant.Columns = splitList(strings.TrimSuffix(columns, ")"))
					}
					grants = append(grants, grant)
				}
			}
		}
	}
	return grants
}

// splitList splits at the commas outside of parentheses.
func splitList(text string) []string {
	var parts []string
	depth, start := 0, 0
	for i, r := range text + "," {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			parts = append(parts, strings.Join(strings.Fields(text[start:i]), " "))
			start = i + 1
		}
	}
	return parts
}
