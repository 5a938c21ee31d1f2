package inboxprom

import (
	"context"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// stats is a consumer whose statistics a test makes.
type stats inboxkafka.Stats

func (s *stats) Stats() inboxkafka.Stats { return inboxkafka.Stats(*s) }

var now = time.Unix(10_000, 0)

// watched returns Metrics of a consumer, registered in a registry.
func watched(t *testing.T, s *stats) (*Metrics, *prometheus.Registry) {
	t.Helper()
	s.Group = "billing"
	m := New()
	m.now = func() time.Time { return now }
	m.Watch(s)
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(m); err != nil {
		t.Fatal(err)
	}
	return m, registry
}

// values returns every series and its value; of histograms how many were counted.
func values(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, series := range f.GetMetric() {
			name := f.GetName()
			for _, label := range series.GetLabel() {
				if label.GetName() == "group" {
					if label.GetValue() != "billing" {
						t.Errorf("%s has the group %q", name, label.GetValue())
					}
					continue
				}
				name += " " + label.GetValue()
			}
			all[name] = series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return all
}

func TestEverySeriesIsThereBeforeAnythingHasHappened(t *testing.T) {
	_, registry := watched(t, &stats{})
	got := values(t, registry)
	for _, name := range []string{
		"inbox_messages_total processed", "inbox_messages_total duplicate", "inbox_messages_total parked", "inbox_messages_total audited",
		"inbox_failures_total", "inbox_retries_total ok", "inbox_retries_total failed", "inbox_commits_total ok", "inbox_commits_total failed",
		"inbox_deleted_offsets_total", "inbox_pauses_total", "inbox_paused", "inbox_held_messages", "inbox_held_bytes",
		"inbox_in_flight_transactions", "inbox_assigned_partitions", "inbox_transaction_duration_seconds", "inbox_message_delay_seconds",
	} {
		if value, there := got[name]; !there || value != 0 {
			t.Errorf("%s is %v (there: %v), want 0", name, value, there)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("there are also %v", slices.Sorted(maps.Keys(got)))
	}
}

func TestAConsumerIsShown(t *testing.T) {
	s := &stats{
		Processed: 1, Duplicates: 2, Skipped: 3, Parked: 4, Audited: 5, Failures: 6, Retried: 7, RetriesFailed: 8, Deleted: 9,
		Commits: 10, CommitsFailed: 11, Pauses: 12, Held: 13, HeldBytes: 14, InFlight: 15, PausedSince: now.Add(-time.Minute),
		ParkedKeys: 16, ParkedSince: now.Add(-time.Hour), ParkedRead: now.Add(-time.Second),
		Partitions: []inboxkafka.PartitionStats{{
			Topic: "orders", Partition: 3, Watermark: 90, Committed: 70, Stable: 100, Lag: 10, Progress: now.Add(-30 * time.Second),
			Held: 8, Waiting: 2, Blocked: 3, BlockedSince: now.Add(-20 * time.Second), Oldest: now.Add(-40 * time.Second), Paused: true,
		}, {Topic: "orders", Partition: 4, Watermark: -1, Committed: -1, Stable: -1, Lag: -1, Progress: now}},
	}
	_, registry := watched(t, s)
	want := map[string]float64{
		"inbox_messages_total processed": 1, "inbox_messages_total duplicate": 5, "inbox_messages_total parked": 4,
		"inbox_messages_total audited": 5, "inbox_failures_total": 6, "inbox_retries_total ok": 7, "inbox_retries_total failed": 8,
		"inbox_deleted_offsets_total": 9, "inbox_commits_total ok": 10, "inbox_commits_total failed": 11, "inbox_pauses_total": 12,
		"inbox_paused": 1, "inbox_held_messages": 13, "inbox_held_bytes": 14, "inbox_in_flight_transactions": 15,
		"inbox_assigned_partitions": 2, "inbox_parked_keys": 16, "inbox_parked_age_seconds": 3600,
		"inbox_transaction_duration_seconds": 0, "inbox_message_delay_seconds": 0,

		"inbox_partition_lag_offsets 3 orders": 10, "inbox_partition_watermark_offset 3 orders": 90,
		"inbox_partition_uncommitted_offsets 3 orders": 20, "inbox_partition_progress_timestamp_seconds 3 orders": 9970,
		"inbox_partition_waiting_keys 3 orders": 2, "inbox_partition_blocked_keys 3 orders": 3,
		"inbox_partition_blocked_age_seconds 3 orders": 20, "inbox_partition_oldest_age_seconds 3 orders": 40,
		"inbox_partition_fetch_paused 3 orders": 1,

		// Nothing is known of the ends of this one.
		"inbox_partition_uncommitted_offsets 4 orders": 0, "inbox_partition_progress_timestamp_seconds 4 orders": 10_000,
		"inbox_partition_waiting_keys 4 orders": 0, "inbox_partition_blocked_keys 4 orders": 0,
		"inbox_partition_blocked_age_seconds 4 orders": 0, "inbox_partition_oldest_age_seconds 4 orders": 0,
		"inbox_partition_fetch_paused 4 orders": 0,
	}
	if got := values(t, registry); !maps.Equal(got, want) {
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("%s is %v, want %v", name, got[name], want[name])
			}
		}
		for name := range got {
			if _, there := want[name]; !there {
				t.Errorf("%s is there", name)
			}
		}
	}
}

// What belongs to a partition goes with it.
func TestSeriesOfAPartitionVanishWithIt(t *testing.T) {
	s := &stats{Partitions: []inboxkafka.PartitionStats{{Topic: "orders", Lag: 5}}}
	_, registry := watched(t, s)
	if got := values(t, registry)["inbox_partition_lag_offsets 0 orders"]; got != 5 {
		t.Errorf("the lag is %v", got)
	}
	s.Partitions = nil
	for name := range values(t, registry) {
		if strings.HasPrefix(name, "inbox_partition_") {
			t.Errorf("%s is still there", name)
		}
	}
}

func TestHooksTimeMessagesAndCallThoseOfTheService(t *testing.T) {
	m, registry := watched(t, &stats{})
	var told []string
	hooks := m.Hooks(inboxkafka.Hooks{
		Handled:     func(context.Context, inbox.Message, inbox.Result, int, time.Duration) { told = append(told, "handled") },
		Transaction: func(context.Context, int, time.Duration) { told = append(told, "transaction") },
		Paused:      func(context.Context, error) { told = append(told, "paused") },
	})
	message := inbox.Message{Time: now.Add(-3 * time.Second)}
	hooks.Transaction(t.Context(), 2, time.Millisecond)
	hooks.Handled(t.Context(), message, inbox.Processed, 0, time.Millisecond)
	hooks.Handled(t.Context(), message, inbox.Duplicate, 0, 0)
	hooks.Handled(t.Context(), inbox.Message{}, inbox.Processed, 0, time.Millisecond)
	hooks.Paused(t.Context(), nil)
	if want := []string{"transaction", "handled", "handled", "handled", "paused"}; !slices.Equal(told, want) {
		t.Errorf("the hooks of the service were told %v, want %v", told, want)
	}
	got := values(t, registry)
	if got["inbox_transaction_duration_seconds"] != 1 || got["inbox_message_delay_seconds"] != 1 {
		t.Errorf("the histograms have %v and %v, want 1 and 1", got["inbox_transaction_duration_seconds"], got["inbox_message_delay_seconds"])
	}
	New().Hooks(inboxkafka.Hooks{}).Handled(t.Context(), message, inbox.Processed, 0, 0) // before Watch
}

func TestNothingIsServedBeforeThereIsAConsumer(t *testing.T) {
	if n := testutil.CollectAndCount(New()); n != 0 {
		t.Errorf("%d series are served", n)
	}
}

// A service that does without this package has no Prometheus client, and one that only writes events
// has pgx and uuid alone.
func TestOnlyThisPackageNeedsPrometheus(t *testing.T) {
	deps := func(of ...string) string {
		out, err := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, of...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	const module = "github.com/outbox-relay/relay/"
	for line := range strings.Lines(deps(module+"outbox", module+"inbox", module+"inbox/inboxsql", module+"inbox/inboxkafka", module+"inbox/inboxloop")) {
		if strings.Contains(line, "prometheus") {
			t.Errorf("a package of applications needs %s", line)
		}
	}
	for line := range strings.Lines(deps(module + "outbox")) {
		name := strings.TrimSpace(line)
		if !strings.Contains(strings.Split(name, "/")[0], ".") || strings.HasPrefix(name, module) || strings.HasPrefix(name, "golang.org/x/") ||
			strings.HasPrefix(name, "github.com/jackc/") || name == "github.com/google/uuid" {
			continue
		}
		t.Errorf("package outbox needs %s", name)
	}
}
