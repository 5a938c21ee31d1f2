package event

import (
	"fmt"
	"strings"
)

// maxIdentifier is how many bytes of a name Postgres keeps; it cuts longer ones off without an error.
const maxIdentifier = 63

// Table is an outbox table, by its schema, which may be empty, and its name.
type Table struct {
	schema, name string
}

// ParseTable reads "outbox" or "billing.outbox". The parts are taken as written: upper case stays upper case, and a name
// that holds a dot cannot be given.
func ParseTable(s string) (Table, error) {
	parts := strings.Split(s, ".")
	if len(parts) > 2 {
		return Table{}, fmt.Errorf("table %q: want a name, or a schema and a name with a dot between", s)
	}
	for _, part := range parts {
		switch {
		case part == "":
			return Table{}, fmt.Errorf("table %q: a name is empty", s)
		case len(part) > maxIdentifier:
			return Table{}, fmt.Errorf("table %q: %q has %d bytes, and Postgres keeps %d", s, part, len(part), maxIdentifier)
		}
		if wrong := checkCharacters(part); wrong != "" {
			return Table{}, fmt.Errorf("table %q: a name %s", s, wrong)
		}
	}
	if len(parts) == 1 {
		return Table{name: parts[0]}, nil
	}
	return Table{schema: parts[0], name: parts[1]}, nil
}

// InsertStatement is the INSERT that takes Columns as seven parameters, in the order of the fields. One statement takes any
// number of messages, so its text never changes, and a cached plan serves every call.
//
// ORDER BY is what makes ids rise in the order of the messages: the default of id is computed above the sort.
func (t Table) InsertStatement() string {
	return "INSERT INTO " + t.qualified(t.name) + " (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers)\n" +
		"SELECT m.msg_id::uuid, m.aggregate_type, m.aggregate_id, m.type, m.topic, m.payload, m.headers::jsonb\n" +
		"FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[])\n" +
		"    WITH ORDINALITY AS m (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers, position)\n" +
		"ORDER BY m.position"
}

// InsertOneStatement is the INSERT of a single message, by far the most frequent one, which takes the same seven values
// without arrays: less to encode, and no function and no sort to run.
func (t Table) InsertOneStatement() string {
	return "INSERT INTO " + t.qualified(t.name) + " (msg_id, aggregate_type, aggregate_id, type, topic, payload, headers)\n" +
		"VALUES ($1::text::uuid, $2::text, $3::text, $4::text, $5::text, $6::bytea, $7::text::jsonb)"
}

// LockStatement takes an aggregate: its type and its id are the parameters. The function stands in the schema of the table.
func (t Table) LockStatement() string {
	return "SELECT " + t.qualified("outbox_lock_aggregate") + "($1::text, $2::text)"
}

func (t Table) qualified(name string) string {
	if t.schema == "" {
		return quote(name)
	}
	return quote(t.schema) + "." + quote(name)
}

func quote(identifier string) string {
	return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"`
}
