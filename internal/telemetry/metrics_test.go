package telemetry

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Unix(1000, 0)

// watched returns Metrics of lanes whose status may change.
func watched(t *testing.T, lanes ...*relay.LaneStatus) *Metrics {
	t.Helper()
	var names []string
	for _, l := range lanes {
		names = append(names, l.Lane)
	}
	m := New(Build{Version: "v1.2.3", Revision: "abc", GoVersion: "go1.26"}, names...)
	m.now = func() time.Time { return now }
	err := m.Watch(func() []relay.LaneStatus {
		var all []relay.LaneStatus
		for _, l := range lanes {
			all = append(all, *l)
		}
		return all
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expect compares the series of some metrics.
func expect(t *testing.T, m *Metrics, want string, names ...string) {
	t.Helper()
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	header := ""
	for _, f := range families {
		for _, name := range names {
			if f.GetName() == name {
				header += "# HELP " + name + " " + f.GetHelp() + "\n# TYPE " + name + " " + strings.ToLower(f.GetType().String()) + "\n"
				for _, line := range strings.Split(want, "\n") {
					if line = strings.TrimSpace(line); strings.HasPrefix(line, name+"{") || strings.HasPrefix(line, name+"_") {
						header += line + "\n"
					}
				}
			}
		}
	}
	if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(header), names...); err != nil {
		t.Error(err)
	}
}

func running() *relay.LaneStatus {
	return &relay.LaneStatus{
		Lane: "outbox", State: relay.Running, ParkedAggregates: 4, Seq: 7, Progress: now.Add(-500 * time.Millisecond), Holds: true,
		Impairments: []relay.Impairment{relay.ImpairedByTopic},
		Backlog:     &relay.Backlog{Rows: 12, Estimated: true, Age: 2500 * time.Millisecond, Read: now.Add(-time.Second)},
	}
}

func TestWhatHappensIsCounted(t *testing.T) {
	m := watched(t, running())
	m.Hooks().Committed(relay.Batch{Lane: "outbox", Rows: 3, Bytes: 300, Parked: 5, Skipped: 1, Took: time.Millisecond})
	m.Hooks().Committed(relay.Batch{Lane: "outbox", Rows: 2, Bytes: 50, Parked: 1, Released: 2, Took: time.Millisecond})
	m.Hooks().TookOver("outbox", time.Second, errors.New("no"))
	m.Hooks().TookOver("outbox", time.Second, nil)
	m.Hooks().Changed(relay.LaneStatus{Lane: "outbox", State: relay.Waiting})
	m.Hooks().Removed(relay.Removal{Lane: "outbox", Rows: 9, Added: 1, Emptied: 3, Dropped: 2})
	m.Hooks().Removed(relay.Removal{Lane: "outbox", Rows: 1, Err: errors.New("no")})
	expect(t, m, `
		relay_batches_total{lane="outbox"} 2
		relay_published_bytes_total{lane="outbox"} 350
		relay_rows_parked_total{lane="outbox"} 6
		relay_rows_published_total{lane="outbox"} 5
		relay_rows_released_total{lane="outbox"} 2
		relay_rows_skipped_total{lane="outbox"} 1
		relay_takeovers_total{lane="outbox",result="failed"} 1
		relay_takeovers_total{lane="outbox",result="ok"} 1
		relay_lane_changes_total{lane="outbox",state="halted"} 0
		relay_lane_changes_total{lane="outbox",state="running"} 0
		relay_lane_changes_total{lane="outbox",state="standby"} 0
		relay_lane_changes_total{lane="outbox",state="taking-over"} 0
		relay_lane_changes_total{lane="outbox",state="waiting"} 1
		relay_retention_partitions_total{change="added",lane="outbox"} 1
		relay_retention_partitions_total{change="dropped",lane="outbox"} 2
		relay_retention_partitions_total{change="emptied",lane="outbox"} 3
		relay_retention_rows_total{lane="outbox"} 10
		relay_retention_rounds_total{lane="outbox",result="failed"} 1
		relay_retention_rounds_total{lane="outbox",result="ok"} 1
		relay_build_info{goversion="go1.26",revision="abc",version="v1.2.3"} 1`,
		"relay_batches_total", "relay_published_bytes_total", "relay_rows_parked_total", "relay_rows_published_total",
		"relay_rows_released_total", "relay_rows_skipped_total", "relay_takeovers_total", "relay_lane_changes_total",
		"relay_retention_partitions_total", "relay_retention_rows_total", "relay_retention_rounds_total", "relay_build_info")
}

func TestDelaysAreAHistogramOfRows(t *testing.T) {
	m := watched(t, running())
	for range 2 {
		batch := relay.Batch{Lane: "outbox", Rows: 4}
		batch.Delays.Rows[0], batch.Delays.Rows[9], batch.Delays.Rows[len(batch.Delays.Rows)-1] = 1, 2, 1
		batch.Delays.Sum = 4 * time.Second
		m.Hooks().Committed(batch)
	}
	want := `
		relay_publish_delay_seconds_sum{lane="outbox"} 8
		relay_publish_delay_seconds_count{lane="outbox"} 8`
	for _, bucket := range []string{"0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2", "0.5"} {
		want += "\nrelay_publish_delay_seconds_bucket{lane=\"outbox\",le=\"" + bucket + "\"} 2"
	}
	for _, bucket := range []string{"1", "2", "5", "10", "30", "60", "300", "1800", "7200"} {
		want += "\nrelay_publish_delay_seconds_bucket{lane=\"outbox\",le=\"" + bucket + "\"} 6"
	}
	expect(t, m, want+"\nrelay_publish_delay_seconds_bucket{lane=\"outbox\",le=\"+Inf\"} 8", "relay_publish_delay_seconds")
}

// A rule cannot see that something happened for the first time if its series was not there before.
func TestEverySeriesIsThereFromTheStartAtZero(t *testing.T) {
	m := watched(t, &relay.LaneStatus{Lane: "outbox", State: relay.Standby, Progress: now})
	count := func() (n int) {
		families, err := m.Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if !strings.HasPrefix(f.GetName(), "relay_") || f.GetName() == "relay_build_info" {
				continue
			}
			for _, series := range f.GetMetric() {
				n++
				if c := series.GetCounter(); c != nil && c.GetValue() != 0 {
					t.Errorf("%s begins at %v", f.GetName(), c.GetValue())
				}
			}
		}
		return n
	}
	before := count()
	m.Hooks().Committed(relay.Batch{Lane: "outbox"})
	m.Hooks().TookOver("outbox", time.Second, nil)
	m.Hooks().Changed(relay.LaneStatus{Lane: "outbox", State: relay.Halted})
	m.Hooks().Removed(relay.Removal{Lane: "outbox"})
	families, err := m.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	after := 0
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "relay_") && f.GetName() != "relay_build_info" {
			after += len(f.GetMetric())
		}
	}
	if after != before {
		t.Errorf("%d series are there before anything has happened, and %d after", before, after)
	}
}

const ownersGauges = `
		relay_lane_seq{lane="outbox"} 7
		relay_parked_aggregates{lane="outbox"} 4
		relay_clock_deviation_seconds{lane="outbox"} -90
		relay_retention_last_success_timestamp_seconds{lane="outbox"} 1000
		relay_last_progress_timestamp_seconds{lane="outbox"} 999.5
		relay_backlog_rows{lane="outbox"} 12
		relay_backlog_estimated{lane="outbox"} 1
		relay_backlog_age_seconds{lane="outbox"} 2.5
		relay_backlog_read_timestamp_seconds{lane="outbox"} 999`

var ownersNames = []string{"relay_lane_seq", "relay_parked_aggregates", "relay_clock_deviation_seconds",
	"relay_retention_last_success_timestamp_seconds", "relay_last_progress_timestamp_seconds", "relay_backlog_rows",
	"relay_backlog_estimated", "relay_backlog_age_seconds", "relay_backlog_read_timestamp_seconds"}

// What a process knew of a lane that another one runs by now would never be corrected.
func TestWhatOnlyTheOwnerKnowsVanishesWithTheLane(t *testing.T) {
	l := running()
	m := watched(t, l)
	m.Hooks().ClockRead("outbox", -90*time.Second)
	m.Hooks().Removed(relay.Removal{Lane: "outbox"})
	expect(t, m, ownersGauges, ownersNames...)
	l.State, l.Holds, l.Backlog, l.Impairments = relay.Standby, false, nil, nil
	expect(t, m, "", ownersNames...)
	// When it comes back, nothing of before is served until it is known again.
	l.State, l.Holds = relay.Running, true
	expect(t, m, `
		relay_lane_seq{lane="outbox"} 7
		relay_parked_aggregates{lane="outbox"} 4
		relay_last_progress_timestamp_seconds{lane="outbox"} 999.5`, ownersNames...)
}

// A process that cannot reach Postgres does not have the lane, but is not content either.
func TestAProcessThatWaitsForPostgresShowsThatItMakesNoProgress(t *testing.T) {
	l := &relay.LaneStatus{Lane: "outbox", State: relay.Waiting, Progress: now, Impairments: []relay.Impairment{relay.ImpairedByPostgres}}
	expect(t, watched(t, l), `relay_last_progress_timestamp_seconds{lane="outbox"} 1000`, ownersNames...)
}

func TestStatesAndImpairmentsHaveAllTheirValues(t *testing.T) {
	expect(t, watched(t, running()), `
		relay_lane_state{lane="outbox",state="halted"} 0
		relay_lane_state{lane="outbox",state="running"} 1
		relay_lane_state{lane="outbox",state="standby"} 0
		relay_lane_state{lane="outbox",state="taking-over"} 0
		relay_lane_state{lane="outbox",state="waiting"} 0
		relay_lane_impaired{lane="outbox",reason="halted"} 0
		relay_lane_impaired{lane="outbox",reason="kafka"} 0
		relay_lane_impaired{lane="outbox",reason="lock"} 0
		relay_lane_impaired{lane="outbox",reason="other"} 0
		relay_lane_impaired{lane="outbox",reason="parking"} 0
		relay_lane_impaired{lane="outbox",reason="postgres"} 0
		relay_lane_impaired{lane="outbox",reason="settings"} 0
		relay_lane_impaired{lane="outbox",reason="table"} 0
		relay_lane_impaired{lane="outbox",reason="topic"} 1
		relay_lane_impaired{lane="outbox",reason="transaction"} 0`, "relay_lane_state", "relay_lane_impaired")
}
