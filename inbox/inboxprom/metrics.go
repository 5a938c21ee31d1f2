package inboxprom

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// Metrics are those of one consumer. It is a prometheus.Collector, and safe for concurrent use.
type Metrics struct {
	source atomic.Pointer[source]

	transactions, delays *prometheus.HistogramVec
	now                  func() time.Time
}

// source is where the statistics come from.
type source struct {
	stats func() inboxkafka.Stats
	group string

	transactions, delays prometheus.Observer // of the group
}

// New returns Metrics. They are served once Watch was called.
func New() *Metrics {
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{"group"})
	}
	return &Metrics{
		now: time.Now,
		transactions: histogram("inbox_transaction_duration_seconds",
			"Seconds of a transaction with its handler, for one message or a batch, whatever came of it.",
			.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60),
		delays: histogram("inbox_message_delay_seconds",
			"Seconds from the time of the record to the moment when its message was processed; the clocks of two hosts are compared.",
			.005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300, 1800, 7200),
	}
}

// Consumer is what Watch reads from: an inboxkafka.Consumer.
type Consumer interface {
	Stats() inboxkafka.Stats
}

// Watch names the consumer. Call it once, before the consumer runs.
func (m *Metrics) Watch(consumer Consumer) {
	group := consumer.Stats().Group
	m.source.Store(&source{consumer.Stats, group, m.transactions.WithLabelValues(group), m.delays.WithLabelValues(group)})
}

// Hooks are for Config.Hooks of the consumer. They call those of next, too.
func (m *Metrics) Hooks(next inboxkafka.Hooks) inboxkafka.Hooks {
	handled, transaction := next.Handled, next.Transaction
	next.Handled = func(ctx context.Context, message inbox.Message, result inbox.Result, failures int, took time.Duration) {
		if to := m.source.Load(); to != nil && result == inbox.Processed && !message.Time.IsZero() {
			to.delays.Observe(max(0, m.now().Sub(message.Time).Seconds()))
		}
		if handled != nil {
			handled(ctx, message, result, failures, took)
		}
	}
	next.Transaction = func(ctx context.Context, messages int, took time.Duration) {
		if to := m.source.Load(); to != nil {
			to.transactions.Observe(took.Seconds())
		}
		if transaction != nil {
			transaction(ctx, messages, took)
		}
	}
	return next
}

// Describe sends the descriptions of all metrics.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range descriptions {
		to <- d
	}
	m.transactions.Describe(to)
	m.delays.Describe(to)
}

// Collect sends all metrics, or none before Watch.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	from := m.source.Load()
	if from == nil {
		return
	}
	s := from.stats()
	r := reporter{to, from.group, m.now()}
	r.messages(s)
	r.process(s)
	for _, p := range s.Partitions {
		r.partition(p)
	}
	m.transactions.Collect(to)
	m.delays.Collect(to)
}

// reporter sends what a snapshot says.
type reporter struct {
	to    chan<- prometheus.Metric
	group string
	now   time.Time
}

func (r reporter) send(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	r.to <- prometheus.MustNewConstMetric(d, kind, value, append([]string{r.group}, labels...)...)
}

func (r reporter) counter(d *prometheus.Desc, value int64, labels ...string) {
	r.send(d, prometheus.CounterValue, float64(value), labels...)
}

func (r reporter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	r.send(d, prometheus.GaugeValue, value, labels...)
}

// age is the time since t, 0 for none.
func (r reporter) age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, r.now.Sub(t).Seconds())
}

// messages sends what has become of messages.
func (r reporter) messages(s inboxkafka.Stats) {
	r.counter(messages, s.Processed, "processed")
	r.counter(messages, s.Duplicates+s.Skipped, "duplicate")
	r.counter(messages, s.Parked, "parked")
	r.counter(messages, s.Audited, "audited")
	r.counter(failures, s.Failures)
	r.counter(retries, s.Retried, "ok")
	r.counter(retries, s.RetriesFailed, "failed")
	r.counter(commits, s.Commits, "ok")
	r.counter(commits, s.CommitsFailed, "failed")
	r.counter(deleted, s.Deleted)
	r.counter(pauses, s.Pauses)
}

// process sends what the process does now.
func (r reporter) process(s inboxkafka.Stats) {
	r.gauge(paused, oneIf(!s.PausedSince.IsZero()))
	r.gauge(held, float64(s.Held))
	r.gauge(heldBytes, float64(s.HeldBytes))
	r.gauge(inFlight, float64(s.InFlight))
	r.gauge(assigned, float64(len(s.Partitions)))
	if !s.ParkedRead.IsZero() {
		r.gauge(parkedKeys, float64(s.ParkedKeys))
		r.gauge(parkedAge, r.age(s.ParkedSince))
	}
}

// partition sends the state of a partition.
func (r reporter) partition(p inboxkafka.PartitionStats) {
	labels := []string{p.Topic, strconv.Itoa(int(p.Partition))}
	if p.Lag >= 0 { // both ends are known
		r.gauge(lag, float64(p.Lag), labels...)
	}
	if p.Watermark >= 0 {
		r.gauge(watermark, float64(p.Watermark), labels...)
	}
	uncommitted := int64(0)
	if p.Committed >= 0 {
		uncommitted = max(0, p.Watermark-p.Committed)
	}
	r.gauge(uncommittedOffsets, float64(uncommitted), labels...)
	r.gauge(progress, float64(p.Progress.UnixMicro())/1e6, labels...)
	r.gauge(waitingKeys, float64(p.Waiting), labels...)
	r.gauge(blockedKeys, float64(p.Blocked), labels...)
	r.gauge(blockedAge, r.age(p.BlockedSince), labels...)
	r.gauge(oldestAge, r.age(p.Oldest), labels...)
	r.gauge(fetchPaused, oneIf(p.Paused), labels...)
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
