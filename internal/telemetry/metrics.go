package telemetry

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/outbox-relay/relay"
)

// Build describes the binary in the metric relay_build_info.
type Build struct {
	Version, Revision, GoVersion string
}

// Metrics counts for Prometheus what a Relay tells its hooks. It is safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	now      func() time.Time

	rows, batches, bytes      *prometheus.CounterVec
	parked, skipped, released *prometheus.CounterVec
	batchRows                 *prometheus.HistogramVec
	batchSeconds              *prometheus.HistogramVec
	lag                       *prometheus.GaugeVec
	takeovers                 *prometheus.CounterVec
	takeoverSeconds           *prometheus.HistogramVec
	changes                   *prometheus.CounterVec
	clock                     *prometheus.GaugeVec
	retention                 retention
}

// New returns Metrics in its own registry, with the collectors of the process and of the Go
// runtime.
func New(build Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), now: time.Now}
	m.rows = m.counter("relay_rows_published_total", "Outbox rows committed to Kafka.", "lane")
	m.batches = m.counter("relay_batches_total", "Kafka transactions committed.", "lane")
	m.bytes = m.counter("relay_bytes_total", "Bytes of keys, values and headers committed to Kafka.", "lane")
	m.parked = m.counter("relay_rows_parked_total", "Outbox rows that were parked in place of being published.", "lane")
	m.skipped = m.counter("relay_rows_skipped_total", "Outbox rows that were left out for good, under the policy skip.", "lane")
	m.released = m.counter("relay_rows_released_total", "Parked rows that were published or discarded.", "lane")
	m.batchRows = m.histogram("relay_batch_rows", "Rows in a committed Kafka transaction.",
		[]float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000}, "lane")
	m.batchSeconds = m.histogram("relay_batch_seconds", "Seconds from the begin of a Kafka transaction to its commit.",
		[]float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}, "lane")
	m.lag = m.gauge("relay_lag_seconds", "Age of the oldest row of the last batch when it was committed.", "lane")
	m.takeovers = m.counter("relay_takeovers_total", "Attempts of this process to take a lane over, by result.",
		"lane", "result")
	m.takeoverSeconds = m.histogram("relay_takeover_seconds", "Seconds that an attempt to take a lane over took.",
		[]float64{.05, .1, .2, .5, 1, 2, 5, 10, 20, 60}, "lane")
	m.changes = m.counter("relay_lane_changes_total", "Changes of a lane to a state, or of its reason for being in it.",
		"lane", "state")
	m.clock = m.gauge("relay_clock_deviation_seconds", "How far the clock of this host is ahead of that of the database.", "lane")
	m.retention = newRetention(m)

	info := m.gauge("relay_build_info", "Always 1; the labels describe the binary.", "version", "revision", "goversion")
	info.WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	m.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// Hooks are for relay.Config.
func (m *Metrics) Hooks() relay.Hooks {
	return relay.Hooks{
		Committed: m.committed, Changed: m.changed, TookOver: m.tookOver, Removed: m.removed, ClockRead: m.clockRead,
	}
}

// Gatherer returns what /metrics serves.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Watch adds the metrics that are read from the engine at each scrape. Call it once.
func (m *Metrics) Watch(status func() []relay.LaneStatus) error {
	if err := m.registry.Register(laneCollector{status}); err != nil {
		return fmt.Errorf("register lane metrics: %w", err)
	}
	return nil
}

// committed counts a batch.
func (m *Metrics) committed(b relay.Batch) {
	m.rows.WithLabelValues(b.Lane).Add(float64(b.Rows))
	m.batches.WithLabelValues(b.Lane).Inc()
	m.parked.WithLabelValues(b.Lane).Add(float64(b.Parked))
	m.skipped.WithLabelValues(b.Lane).Add(float64(b.Skipped))
	m.released.WithLabelValues(b.Lane).Add(float64(b.Released))
	m.bytes.WithLabelValues(b.Lane).Add(float64(b.Bytes))
	m.batchRows.WithLabelValues(b.Lane).Observe(float64(b.Rows))
	m.batchSeconds.WithLabelValues(b.Lane).Observe(b.Took.Seconds())
	if !b.Oldest.IsZero() {
		// The clocks of Postgres and of this process differ; less than nothing is nothing.
		m.lag.WithLabelValues(b.Lane).Set(max(0, m.now().Sub(b.Oldest).Seconds()))
	}
}

// changed counts a change of state.
func (m *Metrics) changed(s relay.LaneStatus) {
	m.changes.WithLabelValues(s.Lane, string(s.State)).Inc()
}

// tookOver counts an attempt to take a lane over.
func (m *Metrics) tookOver(lane string, took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "failed"
	}
	m.takeovers.WithLabelValues(lane, result).Inc()
	m.takeoverSeconds.WithLabelValues(lane).Observe(took.Seconds())
}

// clockRead notes how far the clock of this host is ahead of that of the database.
func (m *Metrics) clockRead(lane string, deviation time.Duration) {
	m.clock.WithLabelValues(lane).Set(deviation.Seconds())
}

func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(c)
	return c
}

func (m *Metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(g)
	return g
}

func (m *Metrics) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(h)
	return h
}
