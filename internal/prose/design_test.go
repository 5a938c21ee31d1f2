package prose

import (
	"regexp"
	"strings"
	"testing"
)

// A test that guards a trap may be renamed or moved, and the table would go on to name it.
func TestEveryNamedTestExists(t *testing.T) {
	exist := tests(t)
	name := regexp.MustCompile(`\bTest[A-Z]\w*`)
	for _, p := range pages(t) {
		for _, l := range p.lines {
			for _, named := range name.FindAllString(l.text, -1) {
				// A command may name the beginning of several tests: go test -run TestStorm.
				if !exist[named] && !(strings.Contains(l.text, "-run") && beginsOne(exist, named)) {
					t.Errorf("%s:%d names %s, which does not exist", p.name, l.number, named)
				}
			}
		}
	}
}

func beginsOne(names map[string]bool, prefix string) bool {
	for name := range names {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}
