package retention

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ErrTooShort is inboxkafka.ErrRetention.
var ErrTooShort = errors.New("inboxkafka: marks are removed while their messages can still come back, and would be " +
	"handled twice")

// lifetime is how long a record of a topic may be read.
type lifetime struct {
	topic              string
	retention, segment time.Duration
	forever            string // why it may never go; empty if it does
}

// sum is how long its mark is needed. A record lives as long as its segment: the segment is closed
// after segment.ms, and goes when the last of its records is older than retention.ms.
func (l lifetime) sum(replay time.Duration) time.Duration { return l.retention + l.segment + replay }

// describe shows the sum term by term.
func (l lifetime) describe(replay time.Duration) string {
	return fmt.Sprintf("topic %s: retention.ms %v + segment.ms %v + ReplayWindow %v = %v",
		l.topic, l.retention, l.segment, replay, l.sum(replay))
}

// unbounded says why its records may live forever.
func (l lifetime) unbounded() string {
	return fmt.Sprintf("topic %s may keep records forever: %s", l.topic, l.forever)
}

// need returns how long marks must be kept for all topics, and why; 0 is forever.
func need(topics []lifetime, replay time.Duration) (longest time.Duration, why string) {
	for _, l := range topics {
		if l.forever != "" {
			return 0, l.unbounded()
		}
		if sum := l.sum(replay); sum > longest {
			longest, why = sum, l.describe(replay)
		}
	}
	return longest, why
}

// check returns ErrTooShort with every topic for which the retention is too short.
func check(retention time.Duration, topics []lifetime, replay time.Duration) error {
	var short []string
	for _, l := range topics {
		switch {
		case l.forever != "":
			short = append(short, l.unbounded())
		case l.sum(replay) > retention:
			short = append(short, l.describe(replay))
		}
	}
	if len(short) == 0 {
		return nil
	}
	return fmt.Errorf("%w: Retention is %v; %s. Try: leave Retention unset, or set KeepForever",
		ErrTooShort, retention, strings.Join(short, "; "))
}

func readLifetime(config kadm.ResourceConfig) (lifetime, error) {
	l := lifetime{topic: config.Name}
	settings := map[string]string{}
	for _, s := range config.Configs {
		if s.Value != nil {
			settings[s.Key] = *s.Value
		}
	}
	policy, told := settings["cleanup.policy"]
	switch {
	case told && policy == "": // which brokers allow since 4.2
		l.forever = "cleanup.policy is empty"
		return l, nil
	case told && !slices.Contains(strings.Split(policy, ","), "delete"):
		l.forever = "cleanup.policy " + policy
		return l, nil
	}
	for _, name := range []string{"retention.ms", "segment.ms"} {
		if _, told := settings[name]; !told { // as some services that offer Kafka do
			l.forever = "the broker does not say its " + name
			return l, nil
		}
	}
	var err error
	if l.retention, err = milliseconds(settings, "retention.ms"); err != nil {
		return l, fmt.Errorf("topic %s: %w", l.topic, err)
	}
	if l.segment, err = milliseconds(settings, "segment.ms"); err != nil {
		return l, fmt.Errorf("topic %s: %w", l.topic, err)
	}
	if l.retention < 0 || l.retention >= tooLong {
		l.forever = "retention.ms " + settings["retention.ms"]
	} else if l.segment >= tooLong {
		l.forever = "segment.ms " + settings["segment.ms"]
	}
	return l, nil
}

// tooLong is a time that means forever: 100 years.
const tooLong = 100 * 365 * 24 * time.Hour

func milliseconds(settings map[string]string, name string) (time.Duration, error) {
	n, err := strconv.ParseInt(settings[name], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	if n > int64(tooLong/time.Millisecond) {
		return tooLong, nil
	}
	return time.Duration(n) * time.Millisecond, nil
}
