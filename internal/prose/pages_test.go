package prose

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the folder of the module, seen from this package.
const root = "../.."

// page is a file that people read.
type page struct {
	name  string // as seen from the root
	lines []line
}

// line is one line of a page.
type line struct {
	number int
	text   string
	kind   kind
}

type kind int

const (
	text  kind = iota
	table      // a row of a table, which cannot be wrapped
	code       // inside a block of code
)

// pages returns every page of the project.
func pages(t *testing.T) []page {
	t.Helper()
	var names []string
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	if len(names) < 10 {
		t.Fatalf("found only the pages %v", names)
	}
	all := make([]page, len(names))
	for i, name := range names {
		all[i] = read(t, name)
	}
	return all
}

// read splits a page into lines.
func read(t *testing.T, path string) page {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	name, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	p := page{name: filepath.ToSlash(name)}
	fenced, blank, indented := false, true, false
	for i, s := range strings.Split(string(content), "\n") {
		trimmed := strings.TrimSpace(s)
		of := text
		switch {
		case strings.HasPrefix(trimmed, "```"):
			fenced, of = !fenced, code
		case fenced:
			of = code
		case strings.HasPrefix(trimmed, "|"):
			of = table
		case strings.HasPrefix(s, "    ") && (blank || indented):
			of, indented = code, true
		}
		if !strings.HasPrefix(s, "    ") && trimmed != "" {
			indented = false
		}
		blank = trimmed == ""
		p.lines = append(p.lines, line{number: i + 1, text: s, kind: of})
	}
	if fenced {
		t.Fatalf("%s: a block of code has no end", p.name)
	}
	return p
}

// tests returns the tests and benchmarks of each folder, as seen from the root.
func tests(t *testing.T) map[string][]string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w*)\(`)
	names := map[string][]string{}
	walk(t, func(path string) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		folder = filepath.ToSlash(folder)
		for _, found := range declared.FindAllStringSubmatch(string(content), -1) {
			names[folder] = append(names[folder], found[1])
		}
	})
	return names
}

// packages returns the folders with Go code, as seen from the root.
func packages(t *testing.T) []string {
	t.Helper()
	folders := map[string]bool{}
	walk(t, func(path string) {
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".go") && folder != "." {
			folders[filepath.ToSlash(folder)] = true
		}
	})
	return slices.Sorted(maps.Keys(folders))
}

func walk(t *testing.T, visit func(path string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata"):
			return filepath.SkipDir
		case !entry.IsDir():
			visit(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
