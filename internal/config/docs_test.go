package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md")

const docsPath = "../../docs/configuration.md"

// tablesMark ends what a person writes on the page. The tables follow.
const tablesMark = "<!-- The tables are written by: go test ./internal/config -update -->\n"

// configurationPage returns the page with the tables as the settings are now.
func configurationPage(t *testing.T, current string) string {
	t.Helper()
	head, _, found := strings.Cut(current, tablesMark)
	if !found {
		t.Fatalf("%s has no line %q", docsPath, tablesMark)
	}
	var page strings.Builder
	page.WriteString(head + tablesMark)
	group := ""
	for _, s := range Settings() {
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&page, "\n## %s\n\n| name | flag | environment | kind | default | meaning |\n|---|---|---|---|---|---|\n", group)
		}
		value, help := "", s.Help
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		if s.Choices != nil {
			help += ": `" + strings.Join(s.Choices, "`, `") + "`"
		}
		fmt.Fprintf(&page, "| `%s` | `--%s` | `%s` | %s | %s | %s |\n", s.Name, s.Flag(), s.Env(), s.Kind, value, help)
	}
	return page.String()
}

func TestThePageOfTheConfigurationIsUpToDate(t *testing.T) {
	got, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	want := configurationPage(t, string(got))
	if string(got) == want {
		return
	}
	if !*update {
		t.Fatal("docs/configuration.md is stale; go test ./internal/config -update writes it again")
	}
	if err := os.WriteFile(docsPath, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}
