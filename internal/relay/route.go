package relay

import (
	"errors"
	"fmt"
	"strings"
)

const routePlaceholder = "{aggregate_type}"

// checkRoute refuses a template that can make no legal topic.
func checkRoute(template string) error {
	rest := strings.ReplaceAll(template, routePlaceholder, "a")
	if strings.ContainsAny(rest, "{}") {
		return fmt.Errorf("%q: the only placeholder is %s", template, routePlaceholder)
	}
	if err := checkTopic(rest); err != nil {
		return fmt.Errorf("%q: %w", template, err)
	}
	return nil
}

// reservedTopic reports whether no event may go there: the checkpoints of any deployment, and Kafka's internal topics.
func reservedTopic(name string) bool {
	return strings.HasPrefix(name, "__") || strings.HasPrefix(name, "relay.") && strings.HasSuffix(name, ".checkpoints")
}

// checkTopic applies Kafka's rule for the names of topics.
func checkTopic(name string) error {
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
