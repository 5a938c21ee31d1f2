package retention

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

func TestLifetimeOfATopic(t *testing.T) {
	config := func(settings ...string) kadm.ResourceConfig {
		c := kadm.ResourceConfig{Name: "orders"}
		for i := 0; i < len(settings); i += 2 {
			c.Configs = append(c.Configs, kadm.Config{Key: settings[i], Value: &settings[i+1]})
		}
		return c
	}
	for _, test := range []struct {
		name    string
		config  kadm.ResourceConfig
		sum     time.Duration
		forever string
		fault   string
	}{
		{"a week", config("retention.ms", "604800000", "segment.ms", "3600000", "cleanup.policy", "delete"), 170 * time.Hour, "", ""},
		{"compacted", config("retention.ms", "1", "segment.ms", "1", "cleanup.policy", "compact"), 0, "cleanup.policy compact", ""},
		{"neither", config("retention.ms", "1", "segment.ms", "1", "cleanup.policy", ""), 0, "cleanup.policy is empty", ""},
		{"both", config("retention.ms", "3600000", "segment.ms", "0", "cleanup.policy", "compact,delete"), 2 * time.Hour, "", ""},
		{"forever", config("retention.ms", "-1", "segment.ms", "1"), 0, "retention.ms -1", ""},
		{"nearly forever", config("retention.ms", "9223372036854775807", "segment.ms", "1"), 0, "retention.ms 9223372036854775807", ""},
		{"one segment forever", config("retention.ms", "1", "segment.ms", "9223372036854775807"), 0, "segment.ms 9223372036854775807", ""},
		{"no answer", config("retention.ms", "1"), 0, "the broker does not say its segment.ms", ""},
		{"nonsense", config("retention.ms", "soon", "segment.ms", "1"), 0, "", "retention.ms"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := readLifetime(test.config)
			if (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Fatalf("error %v, want %q", err, test.fault)
			}
			if err != nil {
				return
			}
			if l.forever != test.forever || test.forever == "" && l.sum(time.Hour) != test.sum {
				t.Errorf("%+v, sum %v; want %v, %q", l, l.sum(time.Hour), test.sum, test.forever)
			}
		})
	}
}

func TestRetentionThatIsTooShortIsRefusedWithTheSum(t *testing.T) {
	short := lifetime{topic: "a", retention: time.Hour, segment: time.Hour}
	long := lifetime{topic: "b", retention: 3 * time.Hour, segment: time.Hour}
	if err := check(6*time.Hour, []lifetime{short, long}, 2*time.Hour); err != nil {
		t.Errorf("just long enough: %v", err)
	}
	err := check(6*time.Hour-1, []lifetime{short, long}, 2*time.Hour)
	if !errors.Is(err, ErrTooShort) ||
		!strings.Contains(err.Error(), "topic b: retention.ms 3h0m0s + segment.ms 1h0m0s + ReplayWindow 2h0m0s = 6h0m0s") ||
		strings.Contains(err.Error(), "topic a") {
		t.Errorf("error: %v", err)
	}
	if err := check(6*time.Hour, []lifetime{{topic: "c", forever: "retention.ms -1"}}, 0); !errors.Is(err, ErrTooShort) {
		t.Errorf("a topic that keeps forever: %v", err)
	}
	if keep, _ := need([]lifetime{short, long}, 2*time.Hour); keep != 6*time.Hour {
		t.Errorf("derived %v, want 6h", keep)
	}
	if keep, why := need([]lifetime{short, {topic: "c", forever: "x"}}, 0); keep != 0 || !strings.Contains(why, "topic c") {
		t.Errorf("derived %v, %s; want forever", keep, why)
	}
}

// What may not be read is an error of the configuration; what cannot be read right now is waited
// for.
func TestWhatMayNotBeReadIsToldFromWhatCannotBeRead(t *testing.T) {
	if !denied(kerr.TopicAuthorizationFailed) || denied(kerr.NotLeaderForPartition) {
		t.Error("what may not be read is taken for what cannot be read right now, or the other way round")
	}
}
