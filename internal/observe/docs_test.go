package observe

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

var update = flag.Bool("update", false, "write the tables and dashboards anew")

const root = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func must(metrics []Metric, err error) func(t *testing.T) []Metric {
	return func(t *testing.T) []Metric {
		t.Helper()
		if err != nil || len(metrics) == 0 {
			t.Fatalf("%d metrics, %v", len(metrics), err)
		}
		return metrics
	}
}

// tables are those of docs/metrics.md, by the comment before each.
func tables(t *testing.T) map[string][]Metric {
	return map[string][]Metric{
		"<!-- metrics of relays -->":    must(RelayMetrics())(t),
		"<!-- metrics of consumers -->": must(InboxMetrics())(t),
	}
}

// The tables are made from what is registered.
func TestThePageHasEveryMetricAndNoOther(t *testing.T) {
	const name = "docs/metrics.md"
	page := read(t, name)
	for mark, metrics := range tables(t) {
		before, rest, found := strings.Cut(page, mark+"\n\n")
		if !found {
			t.Fatalf("%s has no %s", name, mark)
		}
		_, after, _ := strings.Cut(rest, "\n\n")
		if want := before + mark + "\n\n" + Table(metrics) + "\n" + after; want != page {
			if !*update {
				t.Errorf("the table after %s in %s is not what is registered; go test ./internal/observe -update writes it", mark, name)
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

func TestNamesFollowTheConventionsOfPrometheus(t *testing.T) {
	for _, m := range must(All())(t) {
		text := "# HELP " + m.Name + " " + m.Help + "\n# TYPE " + m.Name + " " + m.Type + "\n" + m.Name + " 1\n"
		if m.Type == "histogram" {
			text = "# HELP " + m.Name + " " + m.Help + "\n# TYPE " + m.Name + " histogram\n" + m.Name + "_bucket{le=\"+Inf\"} 1\n" +
				m.Name + "_sum 1\n" + m.Name + "_count 1\n"
		}
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
		if !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: the help is no sentence: %s", m.Name, m.Help)
		}
	}
}

// notMetrics are other names in pages that look like metrics: tables, functions and roles.
var notMetrics = []string{"relay_lanes", "relay_bindings", "relay_recoveries", "relay_operator", "relay_migrations", "inbox_consumer",
	"inbox_operator", "inbox_parked", "inbox_audit"}

// files are what people and programs read of metrics.
func files(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"docs/metrics.md", "docs/runbooks/*.md", "docs/guarantees.md", "docs/poison.md", "docs/retention.md",
		"deploy/prometheus/*", "deploy/grafana/*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range found {
			relative, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, filepath.ToSlash(relative))
		}
	}
	return all
}

func TestNoFileNamesAMetricThatDoesNotExist(t *testing.T) {
	metrics := must(All())(t)
	for _, name := range files(t) {
		for _, unknown := range Unknown(read(t, name), metrics) {
			if !slices.Contains(notMetrics, unknown) {
				t.Errorf("%s names %s, which is no metric", name, unknown)
			}
		}
	}
	if unknown := Unknown("rate(relay_batches_total[1m]) + relay_lag_seconds", metrics); !slices.Equal(unknown, []string{"relay_lag_seconds"}) {
		t.Errorf("the check finds %v", unknown)
	}
}
