package topicname

import (
	"strings"
	"testing"
)

func TestCheckTopic(t *testing.T) {
	for _, name := range []string{"a", "A.b_c-9", "...", "_", strings.Repeat("x", 249), "outbox.event.order"} {
		if err := Check(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", strings.Repeat("x", 250), "a b", "a/b", "a\x00", "ä", "a\n", "a:b", "{a}", "\xff"} {
		if err := Check(name); err == nil {
			t.Errorf("%q is taken for the name of a topic", name)
		}
	}
}

func TestCheckRoute(t *testing.T) {
	for _, template := range []string{"outbox.event.{aggregate_type}", "events", "{aggregate_type}", "{aggregate_type}.{aggregate_type}"} {
		if err := CheckRoute(template); err != nil {
			t.Errorf("%q: %v", template, err)
		}
	}
	for _, template := range []string{"", ".", "{", "}", "{aggregate}", "{aggregate_type", "a {aggregate_type}", "{{aggregate_type}}", strings.Repeat("x", 250), "events/{aggregate_type}"} {
		if err := CheckRoute(template); err == nil {
			t.Errorf("%q is taken for a route", template)
		}
	}
}

func FuzzCheckTopic(f *testing.F) {
	for _, seed := range []string{"outbox.event.order", "..", "", "a b", "ä", "\xff", strings.Repeat("x", 250)} {
		f.Add(seed)
	}
	const legal = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	f.Fuzz(func(t *testing.T, name string) {
		want := len(name) > 0 && len(name) <= 249 && name != "." && name != ".." && onlyOf(name, legal)
		if got := Check(name) == nil; got != want {
			t.Fatalf("%q: legal %t, want %t", name, got, want)
		}
		if CheckRoute(name) == nil && !strings.Contains(name, routePlaceholder) && !want {
			t.Fatalf("%q is a route and no topic", name)
		}
	})
}

func onlyOf(s, chars string) bool {
	for i := range len(s) {
		if strings.IndexByte(chars, s[i]) < 0 {
			return false
		}
	}
	return true
}
