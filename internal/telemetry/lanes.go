package telemetry

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay"
)

func laneGauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"lane"}, labels...), nil)
}

// Of every process.
var (
	laneState = laneGauge("relay_lane_state", "1 for the state that the lane is in as this process knows it, 0 for the others.",
		"state")
	laneImpaired = laneGauge("relay_lane_impaired", "1 for each reason for which the lane does not work as it should, as this "+
		"process knows it, 0 for the others.", "reason")
)

// Of the process that has the lane; laneProgress also of one that would have it and cannot reach Postgres.
var (
	laneProgress = laneGauge("relay_last_progress_timestamp_seconds", "Unix time of the last completed read or commit of the lane.")
	laneSeq      = laneGauge("relay_lane_seq", "Sequence number of the last batch that is known to be committed.")
	laneParked   = laneGauge("relay_parked_aggregates", "Aggregates that are parked.")
	laneClock    = laneGauge("relay_clock_deviation_seconds", "How far the clock of this host is ahead of that of the database.")
	laneRemoved  = laneGauge("relay_retention_last_success_timestamp_seconds",
		"Unix time of the last round of retention that removed all that was due.")
	backlogRows = laneGauge("relay_backlog_rows", "Rows that were committed in the outbox and are not published; "+
		"an estimate if relay_backlog_estimated is 1.")
	backlogEstimated = laneGauge("relay_backlog_estimated", "1 if relay_backlog_rows is an estimate, because there are many.")
	backlogAge       = laneGauge("relay_backlog_age_seconds", "Age of the oldest row that is not published, by its created_at and "+
		"the clock of the database; 0 if there is none.")
	backlogRead = laneGauge("relay_backlog_read_timestamp_seconds", "Unix time of the last count of the backlog.")
)

var laneDescriptions = []*prometheus.Desc{laneState, laneImpaired, laneProgress, laneSeq, laneParked, laneClock, laneRemoved,
	backlogRows, backlogEstimated, backlogAge, backlogRead}

// states are all the values of the label state.
var states = []relay.State{relay.Standby, relay.TakingOver, relay.Running, relay.Waiting, relay.Halted}

// noted keeps what hooks told of the lanes that this process has.
type noted struct {
	mu      sync.Mutex
	clock   map[string]time.Duration
	removed map[string]time.Time
}

func newNoted() *noted {
	return &noted{clock: map[string]time.Duration{}, removed: map[string]time.Time{}}
}

// clockRead notes how far the clock of this host is ahead of that of the database.
func (n *noted) clockRead(lane string, deviation time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.clock[lane] = deviation
}

// removedAll notes a round of retention that removed all that was due.
func (n *noted) removedAll(lane string, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.removed[lane] = at
}

// of returns what is known of a lane. What was known is forgotten if another process has the lane.
func (n *noted) of(l relay.LaneStatus) (clock *time.Duration, removed *time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !l.Holds {
		delete(n.clock, l.Lane)
		delete(n.removed, l.Lane)
	}
	if value, ok := n.clock[l.Lane]; ok {
		clock = &value
	}
	if value, ok := n.removed[l.Lane]; ok {
		removed = &value
	}
	return clock, removed
}

// laneCollector reads the lanes at each scrape.
type laneCollector struct {
	status func() []relay.LaneStatus
	noted  *noted
}

// Describe sends the descriptions of the lane metrics.
func (c laneCollector) Describe(to chan<- *prometheus.Desc) {
	for _, description := range laneDescriptions {
		to <- description
	}
}

// Collect sends the metrics of every lane.
func (c laneCollector) Collect(to chan<- prometheus.Metric) {
	for _, l := range c.status() {
		gauge := func(of *prometheus.Desc, value float64, labels ...string) {
			to <- prometheus.MustNewConstMetric(of, prometheus.GaugeValue, value, append([]string{l.Lane}, labels...)...)
		}
		for _, state := range states {
			gauge(laneState, oneIf(l.State == state), string(state))
		}
		for _, reason := range relay.Impairments() {
			gauge(laneImpaired, oneIf(slices.Contains(l.Impairments, reason)), string(reason))
		}
		if l.State != relay.Standby {
			gauge(laneProgress, unix(l.Progress))
		}
		clock, removed := c.noted.of(l)
		if !l.Holds {
			continue
		}
		gauge(laneSeq, float64(l.Seq))
		gauge(laneParked, float64(l.ParkedAggregates))
		if clock != nil {
			gauge(laneClock, clock.Seconds())
		}
		if removed != nil {
			gauge(laneRemoved, unix(*removed))
		}
		if b := l.Backlog; b != nil {
			gauge(backlogRows, float64(b.Rows))
			gauge(backlogEstimated, oneIf(b.Estimated))
			gauge(backlogAge, b.Age.Seconds())
			gauge(backlogRead, unix(b.Read))
		}
	}
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
