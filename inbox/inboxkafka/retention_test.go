package inboxkafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// alter sets settings of the topic.
func (r *rig) alter(settings ...string) {
	r.t.Helper()
	var alter []kadm.AlterConfig
	for i := 0; i < len(settings); i += 2 {
		alter = append(alter, kadm.AlterConfig{Name: settings[i], Value: &settings[i+1]})
	}
	responses, err := kadm.NewClient(r.producer).AlterTopicConfigs(r.t.Context(), alter, topic)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, response := range responses {
		if response.Err != nil {
			r.t.Fatal(response.Err)
		}
	}
}

// Run tells the inbox how long marks are needed, sweeps, follows a topic that keeps its records for
// longer, and does not sweep if the configuration does not allow for it any more.
func TestRetentionOfARunningConsumer(t *testing.T) {
	r := newRig(t, 1)
	r.alter("retention.ms", "3600000", "segment.ms", "60000")
	cfg := r.config()
	cfg.Retention, cfg.ReplayWindow, cfg.SweepInterval = 2*time.Hour, time.Minute, 5*time.Millisecond
	var refused atomic.Int64
	cfg.Hooks.Retention = func(_ context.Context, err error) {
		if errors.Is(err, ErrRetention) {
			refused.Add(1)
		}
	}
	fixed := r.start(cfg)
	sweeps := func() int { r.inbox.mu.Lock(); defer r.inbox.mu.Unlock(); return r.inbox.sweeps }
	eventually(t, "a sweep", func() bool { return sweeps() > 1 })
	r.alter("retention.ms", "36000000")
	eventually(t, "the refusal", func() bool { return refused.Load() > 2 })
	before, counted := sweeps(), refused.Load()
	eventually(t, "more refusals", func() bool { return refused.Load() > counted+3 })
	if after := sweeps(); after != before {
		t.Errorf("%d sweeps although marks are needed for longer", after-before)
	}
	// Other processes that sweep this database remove none of ours either.
	if keep := r.inbox.kept(); keep != 0 {
		t.Errorf("marks are kept for %v while that is too short, want forever", keep)
	}
	if err := fixed.end(); err != nil {
		t.Fatal(err)
	}
	c, err := cfg.open(r.inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); !errors.Is(err, ErrRetention) {
		t.Errorf("Run returned %v, want ErrRetention", err)
	}
	cfg.Retention = 0
	r.start(cfg)
	derived := func(want time.Duration) func() bool {
		return func() bool {
			r.inbox.mu.Lock()
			defer r.inbox.mu.Unlock()
			return slices.Contains(r.inbox.retained, want)
		}
	}
	eventually(t, "the derived retention", derived(10*time.Hour+2*time.Minute))
	// Another process of the group, with other settings, comes and goes.
	if _, err := r.inbox.Claim(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the derived retention once more", func() bool { return r.inbox.kept() == 10*time.Hour+2*time.Minute })
	r.alter("retention.ms", "72000000")
	eventually(t, "the longer one", derived(20*time.Hour+2*time.Minute))
	r.alter("retention.ms", "-1")
	eventually(t, "forever", derived(0))
}

// A topic that does not exist yet is waited for, without a sweep; one whose settings may not be
// read is an error.
func TestRetentionOfATopicThatDoesNotExistYet(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	cfg.Retention, cfg.Topics, cfg.SweepInterval = 0, []string{"later"}, 5*time.Millisecond
	var missing atomic.Int64
	cfg.Hooks.Retention = func(_ context.Context, err error) {
		if strings.Contains(err.Error(), "no such topic: later") {
			missing.Add(1)
		}
	}
	r.start(cfg)
	eventually(t, "the report", func() bool { return missing.Load() > 0 })
	if r.inbox.sweeps != 0 || len(r.inbox.retained) != 0 {
		t.Errorf("%d sweeps, retention %v", r.inbox.sweeps, r.inbox.retained)
	}
	if _, err := kadm.NewClient(r.producer).CreateTopic(context.Background(), 1, 1, nil, "later"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the retention", func() bool { r.inbox.mu.Lock(); defer r.inbox.mu.Unlock(); return len(r.inbox.retained) > 0 })
}
