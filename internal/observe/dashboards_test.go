package observe

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func dashboards() map[string]Dashboard {
	return map[string]Dashboard{"deploy/grafana/relay.json": RelayDashboard(), "deploy/grafana/inbox.json": InboxDashboard()}
}

func TestDashboardsAreMadeFromCode(t *testing.T) {
	for name, d := range dashboards() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(filepath.Join(root, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(t, name); got != string(want) {
			t.Errorf("%s is not what the code makes; go test ./internal/observe -update writes it", name)
		}
	}
}

// The units and kinds are Grafana's; panels do not overlap, and each can be understood alone.
func TestPanelsAreComplete(t *testing.T) {
	for name, d := range dashboards() {
		titles := map[string]bool{}
		for _, p := range d.Panels {
			if titles[p.Title] || p.Title == "" || !strings.HasSuffix(p.Help, ".") || len(p.Queries) == 0 {
				t.Errorf("%s: %q is there twice, or has no title, no help or no query", name, p.Title)
			}
			titles[p.Title] = true
			if !slices.Contains([]string{"s", "short", "Bps", "bytes", "percentunit"}, p.Unit) || !slices.Contains([]string{"stat", "timeseries"}, p.Kind) {
				t.Errorf("%s: %s has the unit %q and the kind %q", name, p.Title, p.Unit, p.Kind)
			}
			for _, q := range p.Queries {
				if q.Legend == "" || !strings.Contains(q.Expr, `job=~"$job"`) || strings.Contains(q.Expr, "{S") {
					t.Errorf("%s: %s has the query %s with the legend %q", name, p.Title, q.Expr, q.Legend)
				}
			}
		}
		text, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var parsed struct {
			Panels []struct {
				ID      int
				Title   string
				GridPos struct{ X, Y, W, H int } `json:"gridPos"`
			}
		}
		if err := json.Unmarshal(text, &parsed); err != nil {
			t.Fatal(err)
		}
		for i, p := range parsed.Panels {
			if p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: %s is beyond the right edge", name, p.Title)
			}
			for _, q := range parsed.Panels[:i] {
				a, b := p.GridPos, q.GridPos
				if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
					t.Errorf("%s: %s and %s overlap", name, p.Title, q.Title)
				}
			}
		}
	}
}

// A metric that no panel shows and no rule uses is found by no one.
func TestEveryMetricIsOnADashboardOrInARule(t *testing.T) {
	var shown strings.Builder
	for name := range dashboards() {
		shown.WriteString(read(t, name))
	}
	for _, file := range ruleFiles {
		shown.WriteString(read(t, "deploy/prometheus/"+file+".rules.yml"))
	}
	for _, m := range must(All())(t) {
		if !regexp.MustCompile(`\b`+m.Name+`(_bucket|_sum|_count)?\b`).MatchString(shown.String()) &&
			!slices.Contains([]string{"relay_backlog_estimated", "relay_lane_seq", "relay_takeover_duration_seconds",
				"relay_retention_last_success_timestamp_seconds"}, m.Name) {
			t.Errorf("no panel and no rule has %s", m.Name)
		}
	}
}
