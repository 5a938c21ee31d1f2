package inbox

import (
	"strings"
)

// storable cuts a text to so many bytes, and replaces what Postgres cannot store.
func storable(text string, most int) string {
	if len(text) > most {
		text = text[:most]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\x00", "�")
}
