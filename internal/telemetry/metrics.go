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
	noted    *noted

	rows, batches, bytes      *prometheus.CounterVec
	parked, skipped, released *prometheus.CounterVec
	batchRows, batchSeconds   *prometheus.HistogramVec
	delays                    *delays
	takeovers                 *prometheus.CounterVec
	takeoverSeconds           *prometheus.HistogramVec
	changes                   *prometheus.CounterVec

	removedRows, removedPartitions, retentionRounds *prometheus.CounterVec
}

// The values of labels.
var (
	results = []string{"ok", "failed"}
	changes = []string{"added", "emptied", "dropped"}
)

// New returns Metrics of these lanes in its own registry, with the collectors of the process and of
// the Go runtime. Every counter and histogram begins at zero.
func New(build Build, lanes ...string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), now: time.Now, noted: newNoted(), delays: newDelays(lanes)}
	m.rows = m.counter("relay_rows_published_total", "Outbox rows committed to Kafka.")
	m.batches = m.counter("relay_batches_total", "Kafka transactions committed.")
	m.bytes = m.counter("relay_published_bytes_total", "Bytes of keys, values and headers committed to Kafka, before compression.")
	m.parked = m.counter("relay_rows_parked_total", "Outbox rows that were parked in place of being published.")
	m.skipped = m.counter("relay_rows_skipped_total", "Outbox rows that were left out forever, under the policy skip.")
	m.released = m.counter("relay_rows_released_total", "Parked rows that were published or discarded.")
	m.batchRows = m.histogram("relay_batch_rows", "Rows in a committed Kafka transaction.",
		1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
	m.batchSeconds = m.histogram("relay_batch_duration_seconds", "Seconds from the begin of a Kafka transaction to its commit.",
		.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10)
	m.takeovers = m.counter("relay_takeovers_total", "Attempts of this process to take the lane over, by result.", "result")
	m.takeoverSeconds = m.histogram("relay_takeover_duration_seconds", "Seconds that an attempt to take the lane over took.",
		.05, .1, .2, .5, 1, 2, 5, 10, 20, 60)
	m.changes = m.counter("relay_lane_changes_total", "Changes of the lane to a state, or of its reason for being in it.", "state")
	m.removedRows = m.counter("relay_retention_rows_total", "Published outbox rows that were deleted one by one.")
	m.removedPartitions = m.counter("relay_retention_partitions_total", "Partitions of the outbox added, emptied and dropped.",
		"change")
	m.retentionRounds = m.counter("relay_retention_rounds_total",
		"Rounds of retention: ok if all was removed that was due, failed if the round ended early.", "result")
	for _, lane := range lanes {
		m.begin(lane)
	}
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "relay_build_info", Help: "Always 1; the labels describe the binary."},
		[]string{"version", "revision", "goversion"})
	info.WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	m.registry.MustRegister(m.delays, info,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// begin makes every series of a lane, at zero.
func (m *Metrics) begin(lane string) {
	for _, plain := range []*prometheus.CounterVec{m.rows, m.batches, m.bytes, m.parked, m.skipped, m.released, m.removedRows} {
		plain.WithLabelValues(lane)
	}
	for _, h := range []*prometheus.HistogramVec{m.batchRows, m.batchSeconds, m.takeoverSeconds} {
		h.WithLabelValues(lane)
	}
	for _, result := range results {
		m.takeovers.WithLabelValues(lane, result)
		m.retentionRounds.WithLabelValues(lane, result)
	}
	for _, change := range changes {
		m.removedPartitions.WithLabelValues(lane, change)
	}
	for _, state := range states {
		m.changes.WithLabelValues(lane, string(state))
	}
}

// Hooks are for relay.Config.
func (m *Metrics) Hooks() relay.Hooks {
	return relay.Hooks{
		Committed: m.committed, Changed: m.changed, TookOver: m.tookOver, Removed: m.removed, ClockRead: m.noted.clockRead,
	}
}

// Gatherer returns what /metrics serves.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Watch adds the metrics that are read from the engine at each scrape. Call it once.
func (m *Metrics) Watch(status func() []relay.LaneStatus) error {
	if err := m.registry.Register(laneCollector{status, m.noted}); err != nil {
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
	m.delays.add(b.Lane, &b.Delays)
}

// changed counts a change of state.
func (m *Metrics) changed(s relay.LaneStatus) {
	m.changes.WithLabelValues(s.Lane, string(s.State)).Inc()
}

// tookOver counts an attempt to take a lane over.
func (m *Metrics) tookOver(lane string, took time.Duration, err error) {
	m.takeovers.WithLabelValues(lane, resultOf(err)).Inc()
	m.takeoverSeconds.WithLabelValues(lane).Observe(took.Seconds())
}

// removed counts a round of retention.
func (m *Metrics) removed(r relay.Removal) {
	m.removedRows.WithLabelValues(r.Lane).Add(float64(r.Rows))
	for change, n := range map[string]int{"added": r.Added, "emptied": r.Emptied, "dropped": r.Dropped} {
		m.removedPartitions.WithLabelValues(r.Lane, change).Add(float64(n))
	}
	m.retentionRounds.WithLabelValues(r.Lane, resultOf(r.Err)).Inc()
	if r.Err == nil {
		m.noted.removedAll(r.Lane, m.now())
	}
}

func resultOf(err error) string {
	if err != nil {
		return "failed"
	}
	return "ok"
}

// counter registers a counter of each lane.
func (m *Metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, append([]string{"lane"}, labels...))
	m.registry.MustRegister(c)
	return c
}

// histogram registers a histogram of each lane.
func (m *Metrics) histogram(name, help string, buckets ...float64) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"lane"})
	m.registry.MustRegister(h)
	return h
}
