package outboxread

import (
	"bytes"
	"slices"
	"strings"
)

// ownHeader is a header of the row's own. Its value may belong to the reader's buffer.
type ownHeader struct {
	name  string
	value []byte
}

// ownHeaders reads the headers column: sorted by name, and without those that the relay sets
// itself. The content type comes apart, nil where the row names none. The result is valid until the
// next call.
func (d *Decoder) ownHeaders(column []byte) (own []ownHeader, contentType []byte, err error) {
	d.own = d.own[:0]
	if column == nil {
		return nil, nil, nil
	}
	if !d.plainHeaders(column) {
		decoded, err := decodeHeaders(column)
		if err != nil {
			return nil, nil, err
		}
		d.own = d.own[:0]
		for name, value := range decoded {
			d.own = append(d.own, ownHeader{name, []byte(value)})
		}
	}
	d.own = slices.DeleteFunc(d.own, func(h ownHeader) bool {
		switch h.name {
		case headerContentType:
			contentType = h.value
			return true
		case HeaderMsgID, headerSource, headerType, headerAggregateType, headerCreatedAt:
			return true
		}
		return false
	})
	slices.SortFunc(d.own, func(a, b ownHeader) int { return strings.Compare(a.name, b.name) })
	return d.own, contentType, nil
}

// plainHeaders reads an object of strings without escapes, as nearly all are, into d.own, and
// allocates nothing for it. jsonb has at most one space, after a colon or a comma. It reports false
// where the column is anything else, which is then left to the JSON parser.
func (d *Decoder) plainHeaders(column []byte) bool {
	if len(column) < 3 || column[0] != 1 || column[1] != '{' || column[len(column)-1] != '}' {
		return false
	}
	for rest := column[2 : len(column)-1]; ; {
		name, rest2, ok := plainString(rest)
		if !ok || len(name) == 0 {
			return false
		}
		if rest, ok = bytes.CutPrefix(rest2, []byte(":")); !ok {
			return false
		}
		value, rest2, ok := plainString(bytes.TrimPrefix(rest, []byte(" ")))
		if !ok {
			return false
		}
		d.own = append(d.own, ownHeader{d.intern(name).text, value})
		if len(rest2) == 0 {
			return true
		}
		if rest, ok = bytes.CutPrefix(rest2, []byte(",")); !ok {
			return false
		}
		rest = bytes.TrimPrefix(rest, []byte(" "))
	}
}

// plainString cuts a JSON string without escapes from the beginning of b.
func plainString(b []byte) (text, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := bytes.IndexByte(b[1:], '"')
	if end < 0 {
		return nil, nil, false
	}
	text = b[1 : 1+end]
	if bytes.IndexByte(text, '\\') >= 0 { // an escape, be it of this very quote
		return nil, nil, false
	}
	return text, b[end+2:], true
}
