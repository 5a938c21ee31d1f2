package brief

import (
	"fmt"
	"slices"
	"strings"
)

// Named is how many topics a text names; more would not be read.
const Named = 3

// Longest bounds the text of a state and of a cause, in bytes.
const Longest = 1 << 10

// Some joins the first few of the parts and says how many more there are.
func Some(parts []string, separator string) string {
	more := ""
	if len(parts) > Named {
		more = fmt.Sprintf("%sand %d more", separator, len(parts)-Named)
		parts = parts[:Named]
	}
	short := make([]string, len(parts))
	for i, part := range parts {
		short[i] = Cut(part, (Longest-len(more))/Named-len(separator))
	}
	return strings.Join(short, separator) + more
}

// Cut cuts a text to so many bytes.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	const cut = " …"
	return strings.ToValidUTF8(text[:most-len(cut)], "") + cut
}

// Join joins what there is to say.
func Join(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(text string) bool { return text == "" }), "; ")
}

// Detail is what a broker adds to an error, in brackets; empty if it adds nothing.
func Detail(message string) string {
	if message == "" {
		return ""
	}
	return " (" + message + ")"
}
