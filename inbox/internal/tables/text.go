package tables

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Storable cuts a text to so many bytes, and replaces what Postgres cannot store.
func Storable(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\x00", "�")
}

// mostName bounds the bytes of a consumer and of a source: both are in every entry of the primary
// key.
const mostName = 255

// CheckName returns what is wrong with the name of a consumer or a source, or nothing.
func CheckName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > mostName:
		return fmt.Sprintf("has %d bytes; at most %d are allowed", len(name), mostName)
	}
	return CheckText(name)
}

// CheckText returns why Postgres cannot store a text, or nothing.
func CheckText(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "is not valid UTF-8"
	case strings.ContainsRune(text, 0):
		return "holds a zero byte, which Postgres does not store"
	}
	return ""
}
