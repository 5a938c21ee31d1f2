package observe

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rule is an alert of a file of rules.
type rule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// rules reads the alerts of deploy/prometheus/NAME.rules.yml.
func rules(t *testing.T, name string) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "deploy/prometheus/"+name+".rules.yml")), &file); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, group := range file.Groups {
		all = append(all, group.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no alerts", name)
	}
	return all
}

// ruleFiles are the names of the files of rules.
var ruleFiles = []string{"relay", "inbox"}

func TestEachAlertHasARunbookAndACase(t *testing.T) {
	const page = "https://github.com/outbox-relay/relay/blob/main/"
	var wanted []string
	for _, file := range ruleFiles {
		cases := read(t, "deploy/prometheus/"+file+".rules.test.yml")
		for _, r := range rules(t, file) {
			wanted = append(wanted, r.Alert)
			if want := page + "docs/runbooks/" + r.Alert + ".md"; r.Annotations["runbook_url"] != want {
				t.Errorf("%s leads to %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
			}
			if !slices.Contains([]string{"page", "ticket"}, r.Labels["severity"]) || r.Annotations["summary"] == "" {
				t.Errorf("%s has the labels %v and the summary %q", r.Alert, r.Labels, r.Annotations["summary"])
			}
			if !strings.Contains(cases, `alertname="`+r.Alert+`"`) {
				t.Errorf("no case of %s.rules.test.yml fires %s", file, r.Alert)
			}
			text := read(t, "docs/runbooks/"+r.Alert+".md")
			for _, part := range []string{"# " + r.Alert + "\n", "**What it means.**", "**What to look at.**", "**What to type.**", "**What not to do.**"} {
				if !strings.Contains(text, part) {
					t.Errorf("the runbook of %s has no %q", r.Alert, part)
				}
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs/runbooks/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pages {
		if alert := strings.TrimSuffix(filepath.Base(name), ".md"); !slices.Contains(wanted, alert) {
			t.Errorf("docs/runbooks/%s.md is of no alert", alert)
		}
	}
}

// The tables of alerts in docs/metrics.md are made from the rules.
func TestThePageHasEveryAlert(t *testing.T) {
	const name = "docs/metrics.md"
	page := read(t, name)
	for _, file := range ruleFiles {
		mark := "<!-- alerts of " + file + "s -->"
		if file == "inbox" {
			mark = "<!-- alerts of consumers -->"
		}
		before, rest, found := strings.Cut(page, mark+"\n\n")
		if !found {
			t.Fatalf("%s has no %s", name, mark)
		}
		_, after, _ := strings.Cut(rest, "\n\n")
		table := "| alert | severity | after | meaning |\n|---|---|---|---|\n"
		for _, r := range rules(t, file) {
			_, text, _ := strings.Cut(read(t, "docs/runbooks/"+r.Alert+".md"), "**What it means.** ")
			meaning, _, _ := strings.Cut(strings.ReplaceAll(text, "\n", " "), ". ")
			after := r.For
			if after == "" {
				after = "at once"
			}
			table += fmt.Sprintf("| [%s](runbooks/%s.md) | %s | %s | %s |\n", r.Alert, r.Alert, r.Labels["severity"], after,
				meaning)
		}
		if want := before + mark + "\n\n" + table + "\n" + after; want != page {
			if !*update {
				t.Errorf("the table after %s in %s is not that of the rules; go test ./internal/observe -update writes it", mark, name)
			}
			page = want
		}
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, name), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
