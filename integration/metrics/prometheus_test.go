//go:build alerts

package metrics

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
)

// prometheus is a server that scrapes, and evaluates the rules of deploy/prometheus.
type prometheus struct {
	t       *testing.T
	address string
	process *kit.RelayProcess
}

// startPrometheus starts one that scrapes targets, by their jobs, at an interval such as 1s. PROMETHEUS
// names the program.
func startPrometheus(t *testing.T, interval string, targets map[string][]string) *prometheus {
	t.Helper()
	program := os.Getenv("PROMETHEUS")
	if program == "" {
		t.Fatal("PROMETHEUS does not name the program prometheus; make test-alerts does")
	}
	rules, err := filepath.Abs("../../deploy/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	config := "global: {scrape_interval: " + interval + ", evaluation_interval: 1s}\nrule_files: ['" + rules + "/*.rules.yml']\nscrape_configs:\n"
	for job, addresses := range targets {
		config += fmt.Sprintf("  - {job_name: %s, static_configs: [{targets: ['%s']}]}\n", job, strings.Join(addresses, "', '"))
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "prometheus.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, address: freeAddress(t)}
	p.process = kit.StartCommand(t, program, nil, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(folder, "data"),
		"--web.listen-address="+p.address, "--log.level=warn")
	kit.Eventually(t, 30*time.Second, "Prometheus is ready", func() bool {
		answer, err := http.Get("http://" + p.address + "/-/ready")
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
	})
	return p
}

// sample is a series of an answer.
type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

// query asks for the value of an expression now.
func (p *prometheus) query(expr string) ([]sample, error) {
	var answer struct {
		Status, Error string
		Data          struct {
			Result []sample `json:"result"`
		} `json:"data"`
	}
	if err := p.get("/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return nil, err
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s: %s", expr, answer.Error)
	}
	return answer.Data.Result, nil
}

// await waits until an expression has a result.
func (p *prometheus) await(limit time.Duration, expr string) {
	p.t.Helper()
	kit.Eventually(p.t, limit, expr, func() bool {
		found, err := p.query(expr)
		return err == nil && len(found) > 0
	})
}

// alert is a rule as Prometheus has evaluated it.
type alert struct{ Name, State, Health, LastError string }

func (p *prometheus) alerts() []alert {
	p.t.Helper()
	var answer struct {
		Data struct {
			Groups []struct{ Rules []alert }
		}
	}
	if err := p.get("/api/v1/rules?type=alert", &answer); err != nil {
		p.t.Fatal(err)
	}
	var all []alert
	for _, group := range answer.Data.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// state is that of an alert: inactive, pending or firing.
func (p *prometheus) state(name string) string {
	p.t.Helper()
	for _, a := range p.alerts() {
		if a.Name == name {
			return a.State
		}
	}
	p.t.Fatalf("Prometheus has no alert %s", name)
	return ""
}

func (p *prometheus) get(path string, into any) error {
	answer, err := http.Get("http://" + p.address + path)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	return json.NewDecoder(answer.Body).Decode(into)
}
