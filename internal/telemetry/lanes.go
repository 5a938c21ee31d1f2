package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/outbox-relay/relay"
)

var (
	laneState = prometheus.NewDesc("relay_lane_state",
		"1 for the state that the lane is in as this process knows it, 0 for the others.", []string{"lane", "state"}, nil)
	laneProgress = prometheus.NewDesc("relay_last_progress_timestamp_seconds",
		"Unix time of the last completed read or commit of a lane that this process has run.", []string{"lane"}, nil)
	laneSeq = prometheus.NewDesc("relay_lane_seq",
		"Sequence number of the last batch that this process knows to be committed.", []string{"lane"}, nil)
	laneParked = prometheus.NewDesc("relay_parked_aggregates",
		"Aggregates that are parked, as the owner of the lane knows; 0 in other processes.", []string{"lane"}, nil)
	laneImpaired = prometheus.NewDesc("relay_lane_impaired",
		"1 while the lane gives a reason: it waits, has halted, runs without topics or its lock, or stands by with other settings "+
			"than its owner.", []string{"lane"}, nil)
)

// states are all the values of the label state.
var states = []relay.State{relay.Standby, relay.TakingOver, relay.Running, relay.Waiting, relay.Halted}

// laneCollector reads the lanes at each scrape.
type laneCollector struct {
	status func() []relay.LaneStatus
}

// Describe sends the descriptions of the lane metrics.
func (c laneCollector) Describe(to chan<- *prometheus.Desc) {
	to <- laneState
	to <- laneProgress
	to <- laneSeq
	to <- laneParked
	to <- laneImpaired
}

// Collect sends the metrics of every lane.
func (c laneCollector) Collect(to chan<- prometheus.Metric) {
	for _, lane := range c.status() {
		for _, state := range states {
			value := 0.0
			if lane.State == state {
				value = 1
			}
			to <- prometheus.MustNewConstMetric(laneState, prometheus.GaugeValue, value, lane.Lane, string(state))
		}
		to <- prometheus.MustNewConstMetric(laneSeq, prometheus.GaugeValue, float64(lane.Seq), lane.Lane)
		to <- prometheus.MustNewConstMetric(laneParked, prometheus.GaugeValue, parked(lane), lane.Lane)
		to <- prometheus.MustNewConstMetric(laneImpaired, prometheus.GaugeValue, impaired(lane), lane.Lane)
		// A lane that this process has never run has no time of progress; zero would read as 1970.
		if !lane.Progress.IsZero() {
			seconds := float64(lane.Progress.UnixMicro()) / 1e6
			to <- prometheus.MustNewConstMetric(laneProgress, prometheus.GaugeValue, seconds, lane.Lane)
		}
	}
}

// parked leaves out what a process knows of a lane that it does not run any more: it would never be
// corrected.
func parked(lane relay.LaneStatus) float64 {
	if lane.State == relay.Standby {
		return 0
	}
	return float64(lane.ParkedAggregates)
}

func impaired(lane relay.LaneStatus) float64 {
	if lane.Reason == "" {
		return 0
	}
	return 1
}
