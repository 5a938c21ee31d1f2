package prose

import (
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A test that guards a trap may be renamed, and the table would go on to name it.
func TestEveryNamedTestExists(t *testing.T) {
	exist := map[string]bool{}
	for _, names := range tests(t) {
		for _, name := range names {
			exist[name] = true
		}
	}
	name := regexp.MustCompile(`\bTest[A-Z]\w*`)
	for _, p := range pages(t) {
		for _, l := range p.lines {
			// TestACommandOfAPageRunsATest checks those of a command.
			if strings.Contains(l.text, "go test") {
				continue
			}
			for _, named := range name.FindAllString(l.text, -1) {
				if !exist[named] {
					t.Errorf("%s:%d names %s, which does not exist", p.name, l.number, named)
				}
			}
		}
	}
}

// A command runs nothing, and passes, if its tests have moved to another package.
func TestACommandOfAPageRunsATest(t *testing.T) {
	exist := tests(t)
	checked := 0
	for _, p := range append(pages(t), read(t, filepath.Join(root, "Makefile"))) {
		for _, l := range p.lines {
			_, command, found := strings.Cut(l.text, "go test ")
			command, _, _ = strings.Cut(command, "`")
			if !found {
				continue
			}
			for _, fault := range misses(exist, strings.Fields(command)) {
				t.Errorf("%s:%d: go test %s: %s", p.name, l.number, command, fault)
			}
			checked++
		}
	}
	if checked < 10 {
		t.Fatalf("found only %d commands", checked)
	}
}

// misses says what a command of go test would not find.
func misses(exist map[string][]string, arguments []string) []string {
	var faults, folders []string
	patterns := map[string]string{}
	for i, argument := range arguments {
		switch {
		case argument == "-run" || argument == "-bench":
			patterns[argument] = strings.Trim(arguments[i+1], "'")
		case strings.HasPrefix(argument, "./") && !strings.Contains(argument, "..."):
			folders = append(folders, strings.TrimPrefix(argument, "./"))
		}
	}
	for _, folder := range folders {
		if len(exist[folder]) == 0 {
			faults = append(faults, folder+" has no tests")
		}
	}
	kinds := map[string]string{"-run": "Test", "-bench": "Benchmark"}
	for flag, pattern := range patterns {
		if pattern == "^$$" || pattern == "xxx" {
			continue // runs no test, so that only benchmarks run
		}
		for alternative := range strings.SplitSeq(pattern, "|") {
			name, _, _ := strings.Cut(alternative, "/")
			of, err := regexp.Compile(name)
			if err != nil {
				return append(faults, err.Error())
			}
			if !slices.ContainsFunc(folders, func(folder string) bool {
				return slices.ContainsFunc(exist[folder], func(declared string) bool {
					return strings.HasPrefix(declared, kinds[flag]) && of.MatchString(declared)
				})
			}) {
				faults = append(faults, flag+" "+alternative+" matches nothing there")
			}
		}
	}
	return faults
}

// A row names packages by their paths; after the first, those beside it may be named alone.
func TestTheMapHasEveryPackage(t *testing.T) {
	tick := regexp.MustCompile("`([^`]+)`")
	named := map[string]bool{}
	for _, l := range read(t, filepath.Join(root, "DESIGN.md")).lines {
		if l.kind != table {
			continue
		}
		beside := ""
		for i, found := range tick.FindAllStringSubmatch(l.text, -1) {
			name := strings.TrimSuffix(found[1], "/")
			if i == 0 {
				beside = name
			}
			named[name] = true
			named[path.Join(beside, name)] = true
			named[path.Join(path.Dir(beside), name)] = true
		}
	}
	for _, folder := range packages(t) {
		if !named[folder] {
			t.Errorf("the map in DESIGN.md does not name the package %s", folder)
		}
	}
}
