package tables

import (
	"encoding/hex"
	"strings"
)

// Arrays are sent in their text form: every driver, in every mode, sends a text.

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// TextArray is the text form of a text[]. Every element is quoted, so that none is read as NULL or
// as syntax.
func TextArray(elements []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, s := range elements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(escaper.Replace(s))
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

// ByteaArray is the text form of a bytea[], with NULL for nil. bytea in hexadecimal begins with a
// backslash, which an array wants doubled.
func ByteaArray(elements [][]byte) string {
	b := []byte{'{'}
	for i, e := range elements {
		if i > 0 {
			b = append(b, ',')
		}
		if e == nil {
			b = append(b, "NULL"...)
			continue
		}
		b = append(b, `"\\x`...)
		b = hex.AppendEncode(b, e)
		b = append(b, '"')
	}
	return string(append(b, '}'))
}

// OrNull sends a nil slice as NULL and not as a value without bytes.
func OrNull(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
