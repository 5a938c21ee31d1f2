package inbox_test

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
)

var ids = []string{
	"1", " ", "\n", "ü🎉", strings.Repeat("x", 1024),
	"01890a5d-ac96-774b-bcce-b302099a8057", "01890A5D-AC96-774B-BCCE-B302099A8057", // version 7
	"01890a5d-ac96-774b-7cce-b302099a8057", "01890a5d-ac96-774b-ccce-b302099a8057", // other variants
	"01890a5d-ac96-474b-bcce-b302099a8057", "01890A5D-AC96-474B-BCCE-B302099A8057", "01890a5d-ac96-874b-bcce-b302099a8057",
	"01890a5dac96774bbcceb302099a8057", "{01890a5d-ac96-774b-bcce-b302099a8057}", "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
	"01890a5d-ac96-774b-bcce-b302099a8057\n", " 01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a805g",
	"01890a5d_ac96_774b_bcce_b302099a8057", "ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-0000-0000-000000000000",
	"FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "０1890a5d-ac96-774b-bcce-b302099a80",
}

// sqlKey asks the function of the tables.
func sqlKey(t testing.TB) func(id string) uuid.UUID {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), exampledb.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return func(id string) (key uuid.UUID) {
		if err := conn.QueryRow(context.Background(), "SELECT inbox_key($1)", id).Scan(&key); err != nil {
			t.Fatal(err)
		}
		return key
	}
}

func TestKeyIsThatOfTheTables(t *testing.T) {
	ask := sqlKey(t)
	for _, id := range ids {
		if got, want := inbox.MarkID(id), ask(id); got != want {
			t.Errorf("%q: Key gives %v, inbox_key %v", id, got, want)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		id := rapid.OneOf(
			rapid.StringN(1, 40, 1024),
			rapid.StringMatching(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-fA-F]{12}`),
			rapid.StringMatching(`[0-9a-g]{8}.[0-9a-f]{4}-7[0-9a-f]{3}-[89abAB][0-9a-f]{3}-[0-9a-f]{12}`),
		).Filter(func(s string) bool { return !strings.Contains(s, "\x00") }).Draw(r, "id")
		if got, want := inbox.MarkID(id), ask(id); got != want {
			r.Fatalf("%q: Key gives %v, inbox_key %v", id, got, want)
		}
	})
}

func TestKeyKeepsTheTimeOfAVersion7AndHashesEverythingElseBeyondAllWeeks(t *testing.T) {
	for _, id := range ids {
		key := inbox.MarkID(id)
		parsed, err := uuid.Parse(id)
		seven := err == nil && len(id) == 36 && parsed.Version() == 7 && parsed.Variant() == uuid.RFC4122
		switch {
		case seven && key != parsed:
			t.Errorf("%q became %v", id, key)
		case !seven && (key[0] < 0x80 || key.Version() != 8 || key.Variant() != uuid.RFC4122):
			t.Errorf("%q became %v, which is no hash", id, key)
		}
	}
	if inbox.MarkID("01890A5D-AC96-474B-BCCE-B302099A8057") != inbox.MarkID("01890a5d-ac96-474b-bcce-b302099a8057") {
		t.Error("a UUID is another one in upper case")
	}
	if inbox.MarkID("A") == inbox.MarkID("a") {
		t.Error("a text is the same in upper case")
	}
}

func FuzzKey(f *testing.F) {
	for _, id := range ids {
		f.Add(id)
	}
	ask := sqlKey(f)
	f.Fuzz(func(t *testing.T, id string) {
		if id == "" || strings.Contains(id, "\x00") || !utf8.ValidString(id) {
			return // no message has such an id
		}
		if got, want := inbox.MarkID(id), ask(id); got != want {
			t.Fatalf("%q: Key gives %v, inbox_key %v", id, got, want)
		}
	})
}
