package prose

import (
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

const columns = 100

func TestLinesFitAWindow(t *testing.T) {
	for _, p := range pages(t) {
		for _, l := range p.lines {
			// A link cannot be broken; a line of one word is left alone.
			if l.kind == text && utf8.RuneCountInString(l.text) > columns && strings.Count(l.text, " ") > 2 {
				t.Errorf("%s:%d has %d columns, and prose has at most %d", p.name, l.number,
					utf8.RuneCountInString(l.text), columns)
			}
		}
	}
}

// idioms are words and phrases that readers in a second language stumble over, and what to write
// instead.
var idioms = map[string]string{
	`whoever`:              "name who it is: a process, a transaction, an operator",
	`nobody`:               `"no process", "no row", or the passive`,
	`goes by`:              `"uses"`,
	`anew`:                 `"again"`,
	`to and fro`:           "say what alternates",
	`that is a belt`:       "say what the second check is for",
	`nothing of it`:        "say what is not there",
	`ways? on`:             `"choice"`,
	`for ever`:             `"forever"`,
	`is no matter`:         `"does not matter"`,
	`leaves nobody wiser`:  `"its outcome is unknown"`,
	`sieved?`:              `"plan"`,
	`condemn(s|ed)?`:       `"mark as poison"`,
	`janitor`:              `"cleaner"`,
	`takes? the aggregate`: `"locks the aggregate"`,
	`took the aggregate`:   `"locked the aggregate"`,
	`(is|are) away`:        `"is unavailable"`,
	`lineage`:              `"cluster identity"`,
	`twins?`:               `"clone"`,
}

func idiomPatterns() map[*regexp.Regexp]string {
	patterns := map[*regexp.Regexp]string{}
	for idiom, better := range idioms {
		patterns[regexp.MustCompile(`(?i)\b`+idiom+`\b`)] = better
	}
	return patterns
}

func TestProseIsPlain(t *testing.T) {
	patterns := idiomPatterns()
	names := regexp.MustCompile("`[^`]*`")
	for _, p := range pages(t) {
		for _, l := range p.lines {
			if l.kind == code {
				continue
			}
			plain := names.ReplaceAllString(l.text, "``") // names of code are what they are
			for pattern, better := range patterns {
				if found := pattern.FindString(plain); found != "" {
					t.Errorf("%s:%d says %q; write %s", p.name, l.number, found, better)
				}
			}
		}
	}
}

// comment finds the comment of a line of Go or SQL that has nothing else.
var comment = regexp.MustCompile(`^\s*(?://|--)(.*)$`)

// Comments keep to the same words as the pages. Names in quotes are what they are.
func TestCommentsArePlain(t *testing.T) {
	patterns, names, files := idiomPatterns(), regexp.MustCompile("`[^`]*`|\"[^\"]*\""), 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && path != root:
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" && filepath.Ext(path) != ".sql" || strings.HasSuffix(path, "/prose_test.go"):
			return nil
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for number, text := range strings.Split(string(content), "\n") {
			found := comment.FindStringSubmatch(text)
			if found == nil {
				continue
			}
			plain := names.ReplaceAllString(found[1], "")
			for pattern, better := range patterns {
				if idiom := pattern.FindString(plain); idiom != "" {
					t.Errorf("%s:%d says %q; write %s", path, number+1, idiom, better)
				}
			}
		}
		return nil
	})
	if err != nil || files < 500 {
		t.Errorf("%d files were read, and at least 500 are there: %v", files, err)
	}
}

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
