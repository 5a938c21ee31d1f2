package relay

import (
	"bytes"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/parking"
)

// logged is a log that a test can read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// count is how many lines of the log hold all the parts.
func (l *logged) count(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		all := true
		for _, part := range parts {
			all = all && strings.Contains(line, part)
		}
		if all {
			n++
		}
	}
	return n
}

// logging is the configuration with a log that the test reads.
func logging(cfg Config) (Config, *logged) {
	l := &logged{}
	cfg.Logger = slog.New(slog.NewTextHandler(l, nil))
	return cfg, l
}

// Where replicas differ in where rows go, keys move at each failover. The one that waits says so,
// and the one that takes over.
func TestReplicasWithOtherSettingsSaySoLoudly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := r.start(r.config())
	r.insertOrders(2, "v")
	first.awaitRows(t, 2)
	cfg, log := logging(r.config())
	cfg.Route, cfg.Poison = "outbox.event.order", parking.Skip
	second := r.start(cfg)
	second.await(t, "the one that waits says so", func(s *recorder) bool {
		return s.state().State == Standby && strings.Contains(s.state().Reason, `poison was "park" and is "skip"; route was "outbox.event.{aggregate_type}" and is "outbox.event.order"`)
	})
	same, quiet := logging(r.config())
	third := r.start(same)
	owner := query[string](t, r.conn, `SELECT settings_by FROM relay_bindings`)
	if n := log.count("level=WARN", "the owner of the lane has other settings", "owner="+owner, `route was`); n != 1 {
		t.Errorf("the one that waits warned %d times", n)
	}
	until(t, func() bool { // both that wait have compared
		return query[int](t, r.conn, `SELECT count(*)::int FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'SELECT settings::text, settings\_by FROM relay\_bindings%'`) >= 2
	})
	third.stop()
	first.stop()
	r.insertOrders(1, "w")
	second.awaitRows(t, 1)
	if n := log.count("level=WARN", "goes on with other settings", "before="+owner, `poison was`, "now="); n != 1 {
		t.Errorf("the one that took over warned %d times", n)
	}
	second.stop()
	changed := query[string](t, r.conn, `SELECT settings_changed FROM relay_bindings`)
	if !strings.Contains(changed, "from those of "+owner) || !strings.Contains(changed, `poison was "park" and is "skip"`) {
		t.Errorf("the record says %q", changed)
	}
	if n := quiet.count("other settings"); n != 0 {
		t.Errorf("one with the same settings warned %d times", n)
	}
	// The same settings again change nothing.
	cfg, log = logging(cfg)
	r.insertOrders(1, "x")
	again := r.start(cfg)
	again.awaitRows(t, 1)
	again.stop()
	if now := query[string](t, r.conn, `SELECT settings_changed FROM relay_bindings`); now != changed || log.count("other settings") != 0 {
		t.Errorf("the record says %q", now)
	}
}

// A lane that is run under another name looks for its checkpoint where none is. The diagnosis says
// so.
func TestALaneUnderAnotherNameIsToldTheOldOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(2, "v")
	r.runOnce(r.config())
	cfg := r.config()
	cfg.Name = "renamed"
	s := r.start(cfg)
	if reason := s.awaitState(t, Halted); !strings.Contains(reason, `under the name "test"`) || !strings.Contains(reason, `under the name "renamed" is empty`) {
		t.Errorf("the reason is %s", reason)
	}
	s.stop()
}

// A lane records every setting that replicas compare.
func TestEverySettingInWhichReplicasShouldAgreeIsRecorded(t *testing.T) {
	config := Config{Name: "orders", Topics: Topics{Create: true, Partitions: 12, Timeout: time.Minute}}
	agreed := reflect.ValueOf(config.Agreed(Lane{
		Partitioner: "murmur2", Poison: parking.Skip, Route: "events", TopicsAllow: []string{"events.*"},
	}))
	for i := range agreed.NumField() {
		if agreed.Field(i).IsZero() {
			t.Errorf("%s is not recorded", agreed.Type().Field(i).Name)
		}
	}
}
