package outboxsql

import (
	"encoding/hex"
	"strings"
)

// escaper escapes an element between quotes in the text form of an array.
var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// textArray returns the text form of a text[]. Every element is quoted, so that no text is read as
// NULL or as syntax.
func textArray(elements []string) string {
	var b strings.Builder
	for i, s := range elements {
		separate(&b, i)
		writeQuoted(&b, s)
	}
	return enclosed(&b)
}

// nullableArray is textArray with NULL for nil.
func nullableArray(elements []*string) string {
	var b strings.Builder
	for i, s := range elements {
		separate(&b, i)
		if s == nil {
			b.WriteString("NULL")
			continue
		}
		writeQuoted(&b, *s)
	}
	return enclosed(&b)
}

// byteaArray returns the text form of a bytea[], with NULL for nil. bytea in hexadecimal begins
// with a backslash, which an array wants doubled.
func byteaArray(elements [][]byte) string {
	size := 2
	for _, e := range elements {
		size += 2*len(e) + len(`"\\x",`)
	}
	var b strings.Builder
	b.Grow(size)
	var digits [1024]byte
	for i, e := range elements {
		separate(&b, i)
		if e == nil {
			b.WriteString("NULL")
			continue
		}
		b.WriteString(`"\\x`)
		for len(e) > 0 {
			n := min(len(e), len(digits)/2)
			b.Write(digits[:hex.Encode(digits[:], e[:n])])
			e = e[n:]
		}
		b.WriteByte('"')
	}
	return enclosed(&b)
}

func separate(b *strings.Builder, i int) {
	if i == 0 {
		b.WriteByte('{')
	} else {
		b.WriteByte(',')
	}
}

func writeQuoted(b *strings.Builder, s string) {
	b.WriteByte('"')
	b.WriteString(escaper.Replace(s))
	b.WriteByte('"')
}

func enclosed(b *strings.Builder) string {
	if b.Len() == 0 {
		return "{}"
	}
	b.WriteByte('}')
	return b.String()
}
