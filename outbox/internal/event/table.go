package event

import (
	"fmt"
	"strings"
)

// maxIdentifier is how many bytes of a name Postgres keeps; it cuts longer ones off without an
// error.
const maxIdentifier = 63

// Table is an outbox table, by its schema, which may be empty, and its name.
type Table struct {
	schema, name string
}

// ParseTable reads "outbox" or "billing.outbox". The parts are taken as written: upper case stays
// upper case, and a name that holds a dot cannot be given.
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

// Inserts are the statements that insert messages. Those without a topic leave the column out,
// because a service needs no right to it.
type Inserts struct{ one, many, oneWithTopic, manyWithTopic string }

// Inserts returns the statements for the table.
//
// Many takes Columns as arrays, in the order of the fields. It takes any number of messages, so its
// text never changes, and a cached plan serves every call. ORDER BY is what makes ids rise in the
// order of the messages: the default of id is computed above the sort. One takes the same values
// without arrays: less to encode, and no function and no sort to run.
func (t Table) Inserts() Inserts {
	into := func(columns string) string { return "INSERT INTO " + t.qualified(t.name) + " (" + columns + ")\n" }
	const columns = "msg_id, aggregate_type, aggregate_id, type, payload, headers"
	return Inserts{
		one: into(columns) +
			"VALUES ($1::text::uuid, $2::text, $3::text, $4::text, $5::bytea, $6::text::jsonb)",
		oneWithTopic: into(columns+", topic") +
			"VALUES ($1::text::uuid, $2::text, $3::text, $4::text, $5::bytea, $6::text::jsonb, $7::text)",
		many: into(columns) +
			"SELECT m.msg_id::uuid, m.aggregate_type, m.aggregate_id, m.type, m.payload, m.headers::jsonb\n" +
			"FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[])\n" +
			"    WITH ORDINALITY AS m (" + columns + ", position)\n" +
			"ORDER BY m.position",
		manyWithTopic: into(columns+", topic") +
			"SELECT m.msg_id::uuid, m.aggregate_type, m.aggregate_id, m.type, m.payload, m.headers::jsonb, m.topic\n" +
			"FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[])\n" +
			"    WITH ORDINALITY AS m (" + columns + ", topic, position)\n" +
			"ORDER BY m.position",
	}
}

// One returns the statement for a single message, by far the most frequent case.
func (i Inserts) One(withTopic bool) string {
	if withTopic {
		return i.oneWithTopic
	}
	return i.one
}

// Many returns the statement for any number of messages.
func (i Inserts) Many(withTopic bool) string {
	if withTopic {
		return i.manyWithTopic
	}
	return i.many
}

// LockStatement locks an aggregate: its type and its id are the parameters. The function stands in
// the schema of the table.
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
