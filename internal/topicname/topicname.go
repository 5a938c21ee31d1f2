package topicname

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/outbox-relay/relay/internal/brief"
)

const routePlaceholder = "{aggregate_type}"

// CheckRoute refuses a template that can make no legal topic.
func CheckRoute(template string) error {
	rest := strings.ReplaceAll(template, routePlaceholder, "a")
	if strings.ContainsAny(rest, "{}") {
		return fmt.Errorf("%q: the only placeholder is %s", template, routePlaceholder)
	}
	if err := Check(rest); err != nil {
		return fmt.Errorf("%q: %w", template, err)
	}
	return nil
}

// Allowed are the patterns of topics that the column topic may name: those that are configured, or
// what the route makes.
func Allowed(configured []string, route string) []string {
	if len(configured) > 0 {
		return configured
	}
	return []string{PatternOf(route)}
}

// MayGoTo reports whether rows of a lane may go to a topic, by the route or by their column topic.
func MayGoTo(topic string, configured []string, route string) bool {
	return CheckNamed(topic, append([]string{PatternOf(route)}, Allowed(configured, route)...)) == nil
}

// OfRoute is the topic of an aggregate type by a route.
func OfRoute(route, aggregateType string) string {
	return strings.ReplaceAll(route, routePlaceholder, aggregateType)
}

// PatternOf is the pattern of all topics that a route makes.
func PatternOf(route string) string { return OfRoute(route, anyText) }

// anyText stands for any text in a pattern of topics.
const anyText = "*"

// CheckAllowed refuses a pattern that no topic can match, or only one that is always refused.
func CheckAllowed(pattern string) error {
	name := strings.ReplaceAll(pattern, anyText, "a")
	if err := Check(name); err != nil {
		return fmt.Errorf("%q: %w", pattern, err)
	}
	if Reserved(pattern) {
		return fmt.Errorf("%q: %w", pattern, ErrReserved)
	}
	return nil
}

// CheckNamed returns why a row may not name a topic.
func CheckNamed(topic string, allowed []string) error {
	if err := Check(topic); err != nil {
		return err
	}
	if Reserved(topic) {
		return ErrReserved
	}
	for _, pattern := range allowed {
		if matches(pattern, topic) {
			return nil
		}
	}
	return fmt.Errorf("the column topic may not name %s: topics.allow is %s; add it there and retry, or leave the column null",
		topic, brief.Cut(strings.Join(allowed, ","), brief.Longest))
}

// matches reports whether a topic is one of the pattern.
func matches(pattern, topic string) bool {
	ok, err := path.Match(pattern, topic) // neither has a slash, nor a character of patterns other than *
	return err == nil && ok
}

// Reserved reports whether no event may go there: the checkpoints of any deployment, and Kafka's
// internal topics.
func Reserved(name string) bool {
	return strings.HasPrefix(name, "__") || strings.HasPrefix(name, "relay.") && strings.HasSuffix(name, ".checkpoints")
}

// Check applies Kafka's rule for the names of topics.
func Check(name string) error {
	switch {
	case name == "":
		return errors.New("the name of the topic is empty")
	case name == "." || name == "..":
		return fmt.Errorf("a topic cannot be named %q", name)
	case len(name) > 249:
		return fmt.Errorf("the name of the topic has %d characters, and Kafka allows 249", len(name))
	}
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return fmt.Errorf("topic %q has the character %q; Kafka allows letters, digits, '.', '_' and '-'", name, r)
		}
	}
	return nil
}

// ErrReserved refuses a row for a topic that no event may go to.
var ErrReserved = errors.New("the topic is the relay's own or Kafka's")
