package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay"
)

// retention are the metrics of what is removed from the outbox.
type retention struct {
	rows, partitions, failures *prometheus.CounterVec
	last                       *prometheus.GaugeVec
}

func newRetention(m *Metrics) retention {
	return retention{
		rows: m.counter("relay_retention_rows_total", "Published outbox rows deleted one by one.", "lane"),
		partitions: m.counter("relay_retention_partitions_total", "Partitions of the outbox added, emptied and dropped.",
			"lane", "change"),
		failures: m.counter("relay_retention_failures_total", "Rounds of retention that ended early.", "lane"),
		last: m.gauge("relay_retention_last_success_timestamp_seconds",
			"Unix time of the last round of retention that removed all that was due.", "lane"),
	}
}

// removed counts a round of retention.
func (m *Metrics) removed(r relay.Removal) {
	m.retention.rows.WithLabelValues(r.Lane).Add(float64(r.Rows))
	m.retention.partitions.WithLabelValues(r.Lane, "added").Add(float64(r.Added))
	m.retention.partitions.WithLabelValues(r.Lane, "emptied").Add(float64(r.Emptied))
	m.retention.partitions.WithLabelValues(r.Lane, "dropped").Add(float64(r.Dropped))
	failures := m.retention.failures.WithLabelValues(r.Lane)
	if r.Err != nil {
		failures.Inc()
		return
	}
	m.retention.last.WithLabelValues(r.Lane).Set(float64(m.now().UnixMilli()) / 1e3)
}
