package brief

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCutKeepsWholeCharactersWithinTheBound(t *testing.T) {
	if got := Cut("short", 5); got != "short" {
		t.Errorf("a text that fits became %q", got)
	}
	for most := 10; most < 20; most++ {
		got := Cut(strings.Repeat("é", 50), most)
		if len(got) > most || !utf8.ValidString(got) || !strings.HasSuffix(got, " …") {
			t.Errorf("cut to %d bytes: %q", most, got)
		}
	}
}

func TestSomeNamesAFewAndCountsTheRest(t *testing.T) {
	if got := Some([]string{"a", "b", "c"}, ", "); got != "a, b, c" {
		t.Errorf("three parts: %q", got)
	}
	if got := Some([]string{"a", "b", "c", "d", "e"}, ", "); got != "a, b, c, and 2 more" {
		t.Errorf("five parts: %q", got)
	}
	long := strings.Repeat("x", 2*Longest)
	if got := Some([]string{long, long, long, long}, "; "); len(got) > Longest {
		t.Errorf("%d bytes, and %d are allowed", len(got), Longest)
	}
}

func TestJoinLeavesOutWhatIsEmpty(t *testing.T) {
	if got := Join("", "a", "", "b"); got != "a; b" {
		t.Errorf("%q", got)
	}
}
