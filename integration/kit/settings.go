package kit

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// RelaySettings are the environment of a relay on the test's servers.
func RelaySettings(t testing.TB, databaseURL string, bootstrap []string, more ...string) []string {
	t.Helper()
	return append([]string{
		"RELAY_DATABASE_URL=" + databaseURL,
		"RELAY_BROKERS=" + strings.Join(bootstrap, ","),
		"RELAY_ADMIN=off",
		"RELAY_TOPICS_CREATE=true",
		"RELAY_TOPICS_PARTITIONS=12",
		"RELAY_START_TIMEOUT=60s",
	}, more...)
}

// RouteOf gives a test its own topics on a shared cluster.
func RouteOf(t testing.TB) (setting, topic string) {
	prefix := UniqueName(t)
	return "RELAY_ROUTE=" + prefix + ".{aggregate_type}", prefix + ".account"
}

// SettingOf is the value of a setting of relays, or "".
func SettingOf(settings []string, name string) string {
	for _, s := range settings {
		if value, ok := strings.CutPrefix(s, name+"="); ok {
			return value
		}
	}
	return ""
}

// NumberOf reads a number from the environment.
func NumberOf(t testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s=%q is not a number", name, text)
	}
	return n
}
