package event

import (
	"strings"
	"testing"
)

func TestTableIsQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"outbox":              `"outbox"`,
		"billing.outbox":      `"billing"."outbox"`,
		"Billing.Out Box":     `"Billing"."Out Box"`,
		`a"; DROP TABLE x;--`: `"a""; DROP TABLE x;--"`,
	} {
		table, err := ParseTable(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if !strings.HasPrefix(table.Inserts().Many(false), "INSERT INTO "+want+" (") {
			t.Errorf("%q: %s", in, table.Inserts().Many(false))
		}
	}
}

func TestLockFunctionStandsInTheSchemaOfTheTable(t *testing.T) {
	for in, want := range map[string]string{
		"outbox":         `SELECT "outbox_lock_aggregate"($1::text, $2::text)`,
		"billing.events": `SELECT "billing"."outbox_lock_aggregate"($1::text, $2::text)`,
	} {
		table, err := ParseTable(in)
		if err != nil || table.LockStatement() != want {
			t.Errorf("%q: %s, %v", in, table.LockStatement(), err)
		}
	}
}

func TestParseTableRefuses(t *testing.T) {
	for _, in := range []string{"", ".", "a.", ".b", "a.b.c", "a\x00", "\xff", strings.Repeat("a", 64)} {
		if table, err := ParseTable(in); err == nil {
			t.Errorf("%q became %s", in, table.qualified(table.name))
		}
	}
}

// However a name is written, reading the SQL gives it back.
func FuzzParseTable(f *testing.F) {
	f.Add("billing.outbox")
	f.Add(`"a".b"`)
	f.Add(`"`)
	f.Fuzz(func(t *testing.T, in string) {
		table, err := ParseTable(in)
		if err != nil {
			return
		}
		if back := unquote(t, table.qualified(table.name)); back != in {
			t.Fatalf("%q became %s, which is %q", in, table.qualified(table.name), back)
		}
	})
}

// unquote reads quoted identifiers with dots between, as Postgres does.
func unquote(t *testing.T, sql string) string {
	var name strings.Builder
	inside := false
	for i := 0; i < len(sql); i++ {
		switch {
		case sql[i] != '"':
			if !inside && sql[i] != '.' {
				t.Fatalf("%q stands outside the quotes of %s", sql[i], sql)
			}
			name.WriteByte(sql[i])
		case inside && i+1 < len(sql) && sql[i+1] == '"':
			name.WriteByte('"')
			i++
		default:
			inside = !inside
		}
	}
	if inside {
		t.Fatalf("%s has an open quote", sql)
	}
	return name.String()
}
