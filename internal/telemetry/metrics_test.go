package telemetry

import (
	"errors"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observed returns Metrics that has seen one of everything.
func observed(t *testing.T) *Metrics {
	t.Helper()
	m := New(Build{Version: "v1.2.3", Revision: "abc", GoVersion: "go1.26"})
	now := time.Unix(1000, 0)
	m.now = func() time.Time { return now }
	err := m.Watch(func() []relay.LaneStatus {
		return []relay.LaneStatus{
			{Lane: "outbox", State: relay.Running, Reason: "topic late is unavailable", ParkedAggregates: 4, Seq: 7, Progress: time.Unix(999, 500_000_000)},
			{Lane: "billing", State: relay.Standby, ParkedAggregates: 3}, // what it knew when it ran the lane
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	m.Hooks().Committed(relay.Batch{Lane: "outbox", Rows: 3, Bytes: 300, Parked: 5, Skipped: 1, Oldest: now.Add(-2 * time.Second), Took: time.Millisecond})
	m.Hooks().Committed(relay.Batch{Lane: "outbox", Rows: 2, Bytes: 50, Parked: 1, Released: 2, Oldest: now.Add(-time.Second), Took: time.Millisecond})
	m.Hooks().TookOver("outbox", time.Second, errors.New("no"))
	m.Hooks().TookOver("outbox", time.Second, nil)
	m.Hooks().Changed(relay.LaneStatus{Lane: "outbox", State: relay.Waiting})
	m.Hooks().ClockRead("outbox", -90*time.Second)
	m.Hooks().Removed(relay.Removal{Lane: "outbox", Rows: 9, Added: 1, Emptied: 3, Dropped: 2})
	m.Hooks().Removed(relay.Removal{Lane: "outbox", Rows: 1, Err: errors.New("no")})
	return m
}

func TestBatchesTakeoversAndStatesAreCounted(t *testing.T) {
	const want = `
# HELP relay_batches_total Kafka transactions committed.
# TYPE relay_batches_total counter
relay_batches_total{lane="outbox"} 2
# HELP relay_bytes_total Bytes of keys, values and headers committed to Kafka.
# TYPE relay_bytes_total counter
relay_bytes_total{lane="outbox"} 350
# HELP relay_build_info Always 1; the labels describe the binary.
# TYPE relay_build_info gauge
relay_build_info{goversion="go1.26",revision="abc",version="v1.2.3"} 1
# HELP relay_clock_deviation_seconds How far the clock of this host is ahead of that of the database.
# TYPE relay_clock_deviation_seconds gauge
relay_clock_deviation_seconds{lane="outbox"} -90
# HELP relay_lag_seconds Age of the oldest row of the last batch when it was committed.
# TYPE relay_lag_seconds gauge
relay_lag_seconds{lane="outbox"} 1
# HELP relay_lane_changes_total Changes of a lane to a state, or of its reason for being in it.
# TYPE relay_lane_changes_total counter
relay_lane_changes_total{lane="outbox",state="waiting"} 1
# HELP relay_lane_impaired 1 while the lane gives a reason: it waits, has halted, runs without topics or its lock, or stands by with other settings than its owner.
# TYPE relay_lane_impaired gauge
relay_lane_impaired{lane="billing"} 0
relay_lane_impaired{lane="outbox"} 1
# HELP relay_lane_seq Sequence number of the last batch that this process knows to be committed.
# TYPE relay_lane_seq gauge
relay_lane_seq{lane="billing"} 0
relay_lane_seq{lane="outbox"} 7
# HELP relay_lane_state 1 for the state that the lane is in as this process knows it, 0 for the others.
# TYPE relay_lane_state gauge
relay_lane_state{lane="billing",state="halted"} 0
relay_lane_state{lane="billing",state="running"} 0
relay_lane_state{lane="billing",state="standby"} 1
relay_lane_state{lane="billing",state="taking-over"} 0
relay_lane_state{lane="billing",state="waiting"} 0
relay_lane_state{lane="outbox",state="halted"} 0
relay_lane_state{lane="outbox",state="running"} 1
relay_lane_state{lane="outbox",state="standby"} 0
relay_lane_state{lane="outbox",state="taking-over"} 0
relay_lane_state{lane="outbox",state="waiting"} 0
# HELP relay_last_progress_timestamp_seconds Unix time of the last completed read or commit of a lane that this process has run.
# TYPE relay_last_progress_timestamp_seconds gauge
relay_last_progress_timestamp_seconds{lane="outbox"} 999.5
# HELP relay_parked_aggregates Aggregates that are parked, as the owner of the lane knows; 0 in other processes.
# TYPE relay_parked_aggregates gauge
relay_parked_aggregates{lane="billing"} 0
relay_parked_aggregates{lane="outbox"} 4
# HELP relay_rows_parked_total Outbox rows that were parked in place of being published.
# TYPE relay_rows_parked_total counter
relay_rows_parked_total{lane="outbox"} 6
# HELP relay_retention_failures_total Rounds of retention that ended early.
# TYPE relay_retention_failures_total counter
relay_retention_failures_total{lane="outbox"} 1
# HELP relay_retention_last_success_timestamp_seconds Unix time of the last round of retention that removed all that was due.
# TYPE relay_retention_last_success_timestamp_seconds gauge
relay_retention_last_success_timestamp_seconds{lane="outbox"} 1000
# HELP relay_retention_partitions_total Partitions of the outbox added, emptied and dropped.
# TYPE relay_retention_partitions_total counter
relay_retention_partitions_total{change="added",lane="outbox"} 1
relay_retention_partitions_total{change="dropped",lane="outbox"} 2
relay_retention_partitions_total{change="emptied",lane="outbox"} 3
# HELP relay_retention_rows_total Published outbox rows deleted one by one.
# TYPE relay_retention_rows_total counter
relay_retention_rows_total{lane="outbox"} 10
# HELP relay_rows_published_total Outbox rows committed to Kafka.
# TYPE relay_rows_published_total counter
relay_rows_published_total{lane="outbox"} 5
# HELP relay_rows_released_total Parked rows that were published or discarded.
# TYPE relay_rows_released_total counter
relay_rows_released_total{lane="outbox"} 2
# HELP relay_rows_skipped_total Outbox rows that were left out for good, under the policy skip.
# TYPE relay_rows_skipped_total counter
relay_rows_skipped_total{lane="outbox"} 1
# HELP relay_takeovers_total Attempts of this process to take a lane over, by result.
# TYPE relay_takeovers_total counter
relay_takeovers_total{lane="outbox",result="failed"} 1
relay_takeovers_total{lane="outbox",result="ok"} 1
`
	err := testutil.GatherAndCompare(observed(t).Gatherer(), strings.NewReader(want), namesIn(want)...)
	if err != nil {
		t.Error(err)
	}
}

func TestALagIsNeverNegative(t *testing.T) {
	m := New(Build{})
	m.now = func() time.Time { return time.Unix(1000, 0) }
	m.Hooks().Committed(relay.Batch{Lane: "outbox", Rows: 1, Oldest: time.Unix(1001, 0)})
	if got := testutil.ToFloat64(m.lag); got != 0 {
		t.Errorf("a row from a clock that is ahead has the lag %v, want 0", got)
	}
}

func TestNamesFollowTheConventionsOfPrometheus(t *testing.T) {
	problems, err := testutil.GatherAndLint(observed(t).Gatherer(), slices.Sorted(maps.Keys(relayMetrics(t)))...)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestEveryMetricIsDocumentedAndNoOther(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile("(?m)^\\| `(relay_[a-z_]+)`").FindAllSubmatch(page, -1) {
		documented[string(match[1])] = true
	}
	served := relayMetrics(t)
	for name := range served {
		if !documented[name] {
			t.Errorf("docs/metrics.md does not document %s", name)
		}
	}
	for name := range documented {
		if !served[name] {
			t.Errorf("docs/metrics.md documents %s, which does not exist", name)
		}
	}
}

// relayMetrics returns the names of our own metrics.
func relayMetrics(t *testing.T) map[string]bool {
	t.Helper()
	families, err := observed(t).Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "relay_") {
			names[f.GetName()] = true
		}
	}
	return names
}

func namesIn(text string) []string {
	var names []string
	for _, match := range regexp.MustCompile(`# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	return names
}
