package outboxsql

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgtype"
)

func TestArraysAreThoseOfPostgres(t *testing.T) {
	text := func(s string) *string { return &s }
	for _, c := range []struct{ got, want string }{
		{textArray(nil), `{}`},
		{textArray([]string{"a", "", "NULL", `"\`, "{,}", "ü\n"}), `{"a","","NULL","\"\\","{,}","ü` + "\n" + `"}`},
		{nullableArray([]*string{nil, text(""), text("NULL")}), `{NULL,"","NULL"}`},
		{byteaArray(nil), `{}`},
		{byteaArray([][]byte{nil, {}, {0, 0xff}}), `{NULL,"\\x","\\x00ff"}`},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestByteaArrayOfALargePayload(t *testing.T) {
	payload := bytes.Repeat([]byte{1, 2, 3}, 12345)
	if got, want := byteaArray([][]byte{payload}), `{"\\x`+hex.EncodeToString(payload)+`"}`; got != want {
		t.Errorf("%d bytes differ from the %d of encoding/hex", len(got), len(want))
	}
}

// Another reader of Postgres's array syntax gets back what went in.
func FuzzArrays(f *testing.F) {
	f.Add("a", `b"\`, []byte{0})
	f.Add("{NULL}", "", []byte(nil))
	types := pgtype.NewMap()
	f.Fuzz(func(t *testing.T, a, b string, payload []byte) {
		if strings.Contains(a+b, "\x00") || !utf8.ValidString(a) || !utf8.ValidString(b) {
			return // Check refuses these
		}
		var texts []*string
		if err := types.Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(nullableArray([]*string{&a, nil, &b})), &texts); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(texts, []*string{&a, nil, &b}) {
			t.Fatalf("%q, NULL, %q became %v", a, b, texts)
		}
		if all := textArray([]string{a, b}); all != nullableArray([]*string{&a, &b}) {
			t.Fatalf("textArray gave %s", all)
		}
		var payloads [][]byte
		if err := types.Scan(pgtype.ByteaArrayOID, pgtype.TextFormatCode, []byte(byteaArray([][]byte{payload, nil})), &payloads); err != nil {
			t.Fatal(err)
		}
		if len(payloads) != 2 || !bytes.Equal(payloads[0], payload) || (payloads[0] == nil) != (payload == nil) || payloads[1] != nil {
			t.Fatalf("%x, NULL became %x", payload, payloads)
		}
	})
}

func TestOnlyATransactionCanBePassed(t *testing.T) {
	tx := reflect.TypeOf(Insert).In(1)
	for _, other := range []reflect.Type{reflect.TypeFor[*sql.DB](), reflect.TypeFor[*sql.Conn]()} {
		if other.AssignableTo(tx) {
			t.Errorf("%v can be passed to Insert", other)
		}
	}
}
