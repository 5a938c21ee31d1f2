package schema

import (
	"fmt"
	"regexp"

	migrations "github.com/outbox-relay/relay/sql"
)

// Migration is one numbered step of the schema.
type Migration struct{ migrations.Migration }

// String returns the name of the files without their ending: 0001_outbox.
func (m Migration) String() string { return fmt.Sprintf("%04d_%s", m.Version, m.Name) }

// Migrations returns every migration of the outbox in the order in which they are applied.
func Migrations() []Migration { return Outbox.Migrations() }

func wrap(list []migrations.Migration) []Migration {
	var all []Migration
	for _, m := range list {
		all = append(all, Migration{m})
	}
	return all
}

var dropTable = regexp.MustCompile(`(?im)^\s*DROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?([a-z_]+)`)

// drops returns the tables that taking the migration out removes.
func (m Migration) drops() []string {
	var tables []string
	for _, match := range dropTable.FindAllStringSubmatch(m.Down, -1) {
		tables = append(tables, match[1])
	}
	return tables
}
