package event

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Limits in bytes. Kafka has none for a key or a header but the size of the record; these keep the
// columns within what a Postgres index can hold (2,704 bytes an entry), which a look at the events
// of an aggregate needs. The types of the columns in 0001_outbox.up.sql have the same limits.
const (
	maxName        = 255   // of an aggregate type and of a type
	maxAggregateID = 1024  // of an aggregate id
	maxTopic       = 249   // of a topic, by Kafka's own rule
	maxHeaderName  = 255   // of the name of a header
	maxHeaders     = 1_000 // in a message
	maxHeadersText = 65536 // of all headers, as the text of the jsonb column
)

// placeholder is replaced by the aggregate type in a route.
const placeholder = "{aggregate_type}"

// reserved are the headers that the relay writes itself: from the columns of a row, and its own
// name as the source.
var reserved = []string{"msg_id", "source", "type", "aggregate_type", "created_at"}

// Rules are the configurable part of what a message must keep to.
type Rules struct {
	// MaxBytes bounds the size of a message.
	MaxBytes int
	// Route makes the topic of a message that names none.
	Route string
}

// Fault is one thing wrong with one message.
type Fault struct {
	Message int // index of the message
	Field   string
	Reason  string
}

// Check returns every fault of every message, in the order of the messages.
func Check(rules Rules, messages []Message) []Fault {
	var faults []Fault
	firstWith := make(map[uuid.UUID]int)
	for i := range messages {
		m := &messages[i]
		add := func(field, reason string) {
			if reason != "" {
				faults = append(faults, Fault{Message: i, Field: field, Reason: reason})
			}
		}
		if m.ID != uuid.Nil {
			if first, seen := firstWith[m.ID]; seen {
				add("ID", fmt.Sprintf("is that of message %d as well; consumers would drop the second", first))
			} else {
				firstWith[m.ID] = i
			}
		}
		add("AggregateType", checkText(m.AggregateType, maxName))
		add("AggregateID", checkText(m.AggregateID, maxAggregateID))
		add("Type", checkText(m.Type, maxName))
		add(checkDestination(rules.Route, m))
		for _, reason := range checkHeaders(m.Headers) {
			add("Headers", reason)
		}
		if size := m.size(); size > rules.MaxBytes {
			add("Size", fmt.Sprintf("is %d bytes of key, payload and headers; the limit is %d", size, rules.MaxBytes))
		}
	}
	return faults
}

// CheckAggregate returns the faults of an aggregate's name alone.
func CheckAggregate(aggregateType, aggregateID string) []Fault {
	var faults []Fault
	if reason := checkText(aggregateType, maxName); reason != "" {
		faults = append(faults, Fault{Message: -1, Field: "AggregateType", Reason: reason})
	}
	if reason := checkText(aggregateID, maxAggregateID); reason != "" {
		faults = append(faults, Fault{Message: -1, Field: "AggregateID", Reason: reason})
	}
	return faults
}

// checkText says what is wrong with a required text, or nothing.
func checkText(s string, limit int) string {
	if s == "" {
		return "is empty"
	}
	if len(s) > limit {
		return fmt.Sprintf("is %d bytes long; the limit is %d", len(s), limit)
	}
	return checkCharacters(s)
}

// checkCharacters refuses what Postgres cannot store in text and jsonb.
func checkCharacters(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	if strings.ContainsRune(s, 0) {
		return "holds a NUL character, which Postgres cannot store"
	}
	return ""
}

// checkDestination checks the topic that the message will go to. A row whose topic Kafka refuses
// could never be sent, so a message without a topic is judged by what the route makes of it.
func checkDestination(route string, m *Message) (field, reason string) {
	if m.Topic != "" {
		return "Topic", checkTopic(m.Topic)
	}
	if m.AggregateType == "" || !strings.Contains(route, placeholder) {
		return "", "" // the empty aggregate type is a fault already; a constant route was checked with the Config
	}
	topic := strings.ReplaceAll(route, placeholder, m.AggregateType)
	if wrong := checkTopic(topic); wrong != "" {
		return "AggregateType", "makes a topic of the route " + route + " that " + wrong +
			"; set Topic, or change one of them"
	}
	return "", ""
}

// checkTopic applies Kafka's rule for the names of topics.
func checkTopic(name string) string {
	switch {
	case name == "." || name == "..":
		return fmt.Sprintf("is %q, which Kafka refuses", name)
	case len(name) > maxTopic:
		return fmt.Sprintf("is %d characters long; Kafka allows %d", len(name), maxTopic)
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return fmt.Sprintf("has the character %q; Kafka allows letters, digits, '.', '_' and '-'", r)
		}
	}
	return ""
}

// checkHeaders says what is wrong with the headers, in the order of their names. Values are never
// repeated: they may be secrets.
func checkHeaders(headers map[string]string) []string {
	var reasons []string
	if len(headers) > maxHeaders {
		return []string{fmt.Sprintf("are %d; the limit is %d", len(headers), maxHeaders)}
	}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		switch {
		case name == "":
			reasons = append(reasons, "has an empty name")
		case len(name) > maxHeaderName:
			reasons = append(reasons, fmt.Sprintf("has a name of %d bytes; the limit is %d", len(name), maxHeaderName))
		case slices.Contains(reserved, name):
			reasons = append(reasons, fmt.Sprintf("has the name %q, which the relay sets itself", name))
		default:
			if wrong := checkCharacters(name); wrong != "" {
				reasons = append(reasons, fmt.Sprintf("has a name, %q, that %s", name, wrong))
			}
		}
		if wrong := checkCharacters(headers[name]); wrong != "" {
			reasons = append(reasons, fmt.Sprintf("has a value, that of %.40q, that %s", name, wrong))
		}
	}
	if size := jsonbTextSize(headers); size > maxHeadersText {
		reasons = append(reasons, fmt.Sprintf("are %d bytes as JSON; the limit is %d", size, maxHeadersText))
	}
	return reasons
}

// jsonbTextSize is how long the headers are as Postgres writes a jsonb: {"name": "value", "name":
// "value"}.
func jsonbTextSize(headers map[string]string) int {
	size := 2
	for name, value := range headers {
		size += jsonStringSize(name) + 2 + jsonStringSize(value)
	}
	return size + 2*max(0, len(headers)-1)
}

// jsonStringSize is how long Postgres writes a string as JSON.
func jsonStringSize(s string) int {
	size := len(s) + 2
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\', c == '\b', c == '\f', c == '\n', c == '\r', c == '\t':
			size++
		case c < ' ':
			size += len(`\u0000`) - 1
		}
	}
	return size
}

// checkRules returns what is wrong with the rules themselves, each as a sentence about the field it
// begins with.
func checkRules(rules Rules) []string {
	var reasons []string
	// A field of a Postgres row ends at 1 GiB, and so does a message of its protocol; hexadecimal
	// takes twice the bytes.
	const most = 256 << 20
	if rules.MaxBytes < 1 || rules.MaxBytes > most {
		reasons = append(reasons, fmt.Sprintf("MaxBytes: %d is not between 1 and %d", rules.MaxBytes, most))
	}
	topic := strings.ReplaceAll(rules.Route, placeholder, "a")
	if strings.ContainsAny(topic, "{}") {
		reasons = append(reasons, fmt.Sprintf("Route: %q: the only placeholder is %s", rules.Route, placeholder))
	} else if wrong := checkTopic(topic); wrong != "" {
		reasons = append(reasons, fmt.Sprintf("Route: %q makes a topic that %s", rules.Route, wrong))
	}
	return reasons
}
