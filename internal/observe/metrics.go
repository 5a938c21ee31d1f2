package observe

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxprom"
	"github.com/outbox-relay/relay/internal/telemetry"
)

// Metric is one that is served.
type Metric struct {
	Name   string
	Type   string // counter, gauge or histogram
	Labels []string
	Help   string
}

// Unit is that of the values, as the name says it.
func (m Metric) Unit() string {
	name := strings.TrimSuffix(m.Name, "_total")
	if strings.HasSuffix(name, "_timestamp_seconds") {
		return "Unix time"
	}
	for _, unit := range []string{"seconds", "bytes", "rows", "aggregates", "messages", "offsets", "keys", "partitions"} {
		if strings.HasSuffix(name, "_"+unit) || strings.Contains(name, "_"+unit+"_") {
			return unit
		}
	}
	return "-"
}

// Series are the names under which the metric is stored.
func (m Metric) Series() []string {
	if m.Type == "histogram" {
		return []string{m.Name + "_bucket", m.Name + "_sum", m.Name + "_count"}
	}
	return []string{m.Name}
}

// RelayMetrics returns those of relay run, in the order of their names.
func RelayMetrics() ([]Metric, error) {
	m := telemetry.New(telemetry.Build{}, "outbox")
	err := m.Watch(func() []relay.LaneStatus {
		return []relay.LaneStatus{{
			Lane: "outbox", State: relay.Running, Holds: true, Progress: time.Now(), Backlog: &relay.Backlog{},
		}}
	})
	if err != nil {
		return nil, err
	}
	m.Hooks().ClockRead("outbox", 0)
	m.Hooks().Removed(relay.Removal{Lane: "outbox"})
	return list(m.Gatherer(), "relay_")
}

// list returns the metrics whose names begin with a prefix.
func list(from prometheus.Gatherer, prefix string) ([]Metric, error) {
	families, err := from.Gather()
	if err != nil {
		return nil, fmt.Errorf("gather metrics: %w", err)
	}
	var all []Metric
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		m := Metric{Name: f.GetName(), Type: strings.ToLower(f.GetType().String()), Help: f.GetHelp()}
		for _, label := range f.GetMetric()[0].GetLabel() {
			m.Labels = append(m.Labels, label.GetName())
		}
		all = append(all, m)
	}
	return all, nil
}

// consumer is one that has a partition.
type consumer struct{}

func (consumer) Stats() inboxkafka.Stats {
	return inboxkafka.Stats{
		Group: "group", ParkedRead: time.Now(), Partitions: []inboxkafka.PartitionStats{{Topic: "topic"}},
	}
}

// InboxMetrics returns those of consumers, in the order of their names.
func InboxMetrics() ([]Metric, error) {
	m := inboxprom.New()
	m.Watch(consumer{})
	registry := prometheus.NewRegistry()
	if err := registry.Register(m); err != nil {
		return nil, fmt.Errorf("register the metrics of a consumer: %w", err)
	}
	return list(registry, "inbox_")
}

// All returns the metrics of relays and of consumers.
func All() ([]Metric, error) {
	ofRelays, err := RelayMetrics()
	if err != nil {
		return nil, err
	}
	ofConsumers, err := InboxMetrics()
	return append(ofRelays, ofConsumers...), err
}

// named finds what looks like the name of a metric of ours.
var named = regexp.MustCompile(`\b(?:relay|inbox)_[a-z_]+\b`)

// Unknown returns the names in a text that look like metrics of ours and are none.
func Unknown(text string, metrics []Metric) []string {
	known := map[string]bool{}
	for _, m := range metrics {
		known[m.Name] = true
		for _, name := range m.Series() {
			known[name] = true
		}
	}
	var unknown []string
	for _, name := range named.FindAllString(text, -1) {
		if !known[name] && !slices.Contains(unknown, name) {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// Table returns metrics as a table of Markdown.
func Table(metrics []Metric) string {
	var b strings.Builder
	b.WriteString("| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n")
	for _, m := range metrics {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), m.Unit(),
			strings.TrimSuffix(m.Help, "."))
	}
	return b.String()
}
