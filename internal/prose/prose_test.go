package prose

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinksLeadSomewhere(t *testing.T) {
	for _, p := range pages(t) {
		for _, l := range p.lines {
			if l.kind == code {
				continue
			}
			for _, found := range link.FindAllStringSubmatch(l.text, -1) {
				follow(t, p, l, found[1])
			}
		}
	}
}

func follow(t *testing.T, from page, l line, target string) {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Errorf("%s:%d: %v", from.name, l.number, err)
		return
	}
	if to.IsAbs() {
		return // the network is not a part of this test
	}
	name := from.name
	if to.Path != "" {
		name = filepath.ToSlash(filepath.Join(filepath.Dir(from.name), to.Path))
	}
	path := filepath.Join(root, name)
	if _, err := os.Stat(path); err != nil {
		t.Errorf("%s:%d leads to %s, which does not exist", from.name, l.number, target)
		return
	}
	if to.Fragment != "" && !headings(read(t, path))[to.Fragment] {
		t.Errorf("%s:%d leads to %s, and %s has no such heading", from.name, l.number, target, name)
	}
}

// headings returns the anchors of a page as GitHub makes them.
func headings(p page) map[string]bool {
	anchors := map[string]bool{}
	for _, l := range p.lines {
		title := strings.TrimLeft(l.text, "#")
		if l.kind == code || title == l.text {
			continue
		}
		var anchor strings.Builder
		for _, r := range strings.ToLower(strings.TrimSpace(title)) {
			switch {
			case r == ' ':
				anchor.WriteRune('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				anchor.WriteRune(r)
			}
		}
		anchors[anchor.String()] = true
	}
	return anchors
}

// The consumer in README.md is a whole program, so that a reader may paste it.
func TestTheProgramInTheReadmeCompiles(t *testing.T) {
	var program strings.Builder
	whole := false
	for _, l := range read(t, filepath.Join(root, "README.md")).lines {
		switch {
		case l.kind != code || strings.HasPrefix(l.text, "```"):
			whole = false
		case l.text == "package main":
			whole = true
		}
		if whole {
			program.WriteString(l.text + "\n")
		}
	}
	if program.Len() == 0 {
		t.Fatal("README.md has no program")
	}
	folder, err := os.MkdirTemp(".", "readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(folder, "main.go"), []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	vet := exec.CommandContext(t.Context(), "go", "vet", "./"+filepath.ToSlash(folder))
	if output, err := vet.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
}
