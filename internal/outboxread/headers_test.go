package outboxread

import (
	"encoding/json"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

// jsonbText writes an object as Postgres does: a space after colons and commas, no escape that is
// not needed.
func jsonbText(t *rapid.T, headers map[string]string) []byte {
	column := []byte{1, '{'}
	for name, value := range headers {
		if len(column) > 2 {
			column = append(column, ", "...)
		}
		for i, text := range []string{name, value} {
			encoded, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				column = append(column, ": "...)
			}
			column = append(column, encoded...)
		}
	}
	return append(column, '}')
}

func TestPlainHeadersAreReadAsTheParserReadsThem(t *testing.T) {
	d := decoder()
	rapid.Check(t, func(t *rapid.T) {
		headers := rapid.MapOfN(rapid.StringN(1, 20, 60), rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9", :{}-]*`)), 0, 5).Draw(t, "headers")
		column := jsonbText(t, headers)
		want, err := decodeHeaders(column)
		if err != nil {
			t.Fatal(err)
		}
		for _, reserved := range []string{HeaderMsgID, headerSource, headerType, headerAggregateType, headerCreatedAt, headerContentType} {
			delete(want, reserved)
		}
		own, _, err := d.ownHeaders(column)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for i, h := range own {
			got[h.name] = string(h.value)
			if i > 0 && own[i-1].name >= h.name {
				t.Fatalf("%q stands before %q", own[i-1].name, h.name)
			}
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%s: %q, want %q", column[1:], got, want)
		}
	})
}
