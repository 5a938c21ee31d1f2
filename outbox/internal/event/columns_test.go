package event

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

func TestIdentitiesAreKeptOrMadeAndRise(t *testing.T) {
	given := uuid.MustParse("00000000-0000-4000-8000-000000000001")
	messages := make([]Message, 2000)
	messages[7].ID = given
	ids, err := Identities(messages)
	if err != nil {
		t.Fatal(err)
	}
	if ids[7] != given {
		t.Errorf("the caller's id became %v", ids[7])
	}
	made := slices.Delete(slices.Clone(ids), 7, 8)
	for i, id := range made {
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 {
			t.Fatalf("id %d is %v, version %d", i, id, id.Version())
		}
		if i > 0 && made[i-1].String() >= id.String() {
			t.Fatalf("id %d, %v, does not rise over %v", i, id, made[i-1])
		}
	}
}

func TestColumnsTellNullFromEmpty(t *testing.T) {
	messages := []Message{
		{Payload: nil},
		{Payload: []byte{}, Topic: "t", Headers: map[string]string{}},
		{Payload: []byte{0}, Headers: map[string]string{"b": "<&>", "a": `"`}},
	}
	for c, err := range Statements(messages, make([]uuid.UUID, 3)) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Payloads[0] != nil || c.Payloads[1] == nil || len(c.Payloads[2]) != 1 {
			t.Errorf("payloads %v", c.Payloads)
		}
		if c.Topics[0] != nil || *c.Topics[1] != "t" {
			t.Errorf("topics %v", c.Topics)
		}
		if c.Headers[0] != nil || c.Headers[1] != nil || *c.Headers[2] != `{"a":"\"","b":"\u003c\u0026\u003e"}` {
			t.Errorf("headers %v", c.Headers)
		}
	}
}

func TestStatementsAreFewAndKeepTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(0, 24<<20), 1, 8).Draw(t, "sizes")
		shared := make([]byte, 24<<20)
		messages := make([]Message, len(sizes))
		ids := make([]uuid.UUID, len(sizes))
		for i, size := range sizes {
			messages[i].Payload = shared[:size]
			ids[i][15] = byte(i + 1)
		}
		var seen []string
		last := statementBytes + 1 // so that the first statement need not justify itself
		for c, err := range Statements(messages, ids) {
			if err != nil {
				t.Fatal(err)
			}
			var bytes int
			for _, p := range c.Payloads {
				bytes += len(p)
			}
			if bytes > statementBytes && len(c.Payloads) > 1 {
				t.Fatalf("a statement of %d bytes", bytes)
			}
			if last+len(c.Payloads[0]) <= statementBytes {
				t.Fatalf("%d bytes would have fitted the statement before, which has %d", len(c.Payloads[0]), last)
			}
			last = bytes
			seen = append(seen, c.IDs...)
		}
		for i, id := range seen {
			if id != ids[i].String() {
				t.Fatalf("message %d came at place %d", i, slices.Index(seen, ids[i].String()))
			}
		}
		if len(seen) != len(ids) {
			t.Fatalf("%d of %d messages", len(seen), len(ids))
		}
	})
}

func TestStatementsHoldABoundedNumberOfMessages(t *testing.T) {
	var counts []int
	for c, err := range Statements(make([]Message, 2*statementMessages+1), make([]uuid.UUID, 2*statementMessages+1)) {
		if err != nil {
			t.Fatal(err)
		}
		counts = append(counts, len(c.IDs))
	}
	if !slices.Equal(counts, []int{statementMessages, statementMessages, 1}) {
		t.Errorf("statements of %v messages", counts)
	}
}

func TestStatementsEndWithTheConsumer(t *testing.T) {
	calls := 0
	for _, err := range Statements(make([]Message, 2*statementMessages), make([]uuid.UUID, 2*statementMessages)) {
		if err != nil {
			t.Fatal(err)
		}
		calls++
		break
	}
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// Headers that Check lets pass come back from the JSON as they went in.
func FuzzHeaders(f *testing.F) {
	f.Add("content-type", "application/json", "traceparent", "00-aa-bb-01")
	f.Add("a", "\u2028<script>&\"\\", "\ufffd", "\x01\x7f")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		headers := map[string]string{name1: value1, name2: value2}
		if len(checkHeaders(headers)) > 0 {
			return
		}
		text, err := encodeHeaders(headers)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(*text, `\u0000`) && !strings.Contains(*text, `\\u0000`) {
			t.Fatalf("a NUL, which jsonb refuses: %s", *text)
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(*text), &back); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(back, headers) {
			t.Fatalf("%q became %q", headers, back)
		}
	})
}
