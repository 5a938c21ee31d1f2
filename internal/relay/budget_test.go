package relay

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/brief"
	"github.com/outbox-relay/relay/internal/topics"
)

// lagOf writes an event of a good topic and returns how long it took until that was published.
func (s *started) lagOf(t *testing.T, r *rig, key string) time.Duration {
	t.Helper()
	s.mu.Lock()
	rows := s.rows
	s.mu.Unlock()
	began := time.Now()
	r.putEvent(key, "good")
	s.await(t, "the good row is published", func(rec *recorder) bool { return rec.rows > rows })
	return time.Since(began)
}

// stood is how long the lane waited, all in all, as its states say: it does not depend on how busy
// the machine is.
func (r *recorder) stood() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := time.Duration(0)
	for i := 1; i < len(r.states); i++ {
		if r.states[i-1].State == Waiting {
			total += r.states[i].Since.Sub(r.states[i-1].Since)
		}
	}
	return total
}

// Rows of topics that do not exist come one after the other, each of a new topic. Good rows do not
// wait for them, and all is published once the topics exist.
func TestMissingTopicsDoNotHoldUpTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config() // with topics.patience at its default
	s := r.start(cfg)
	s.lagOf(t, r, "warm")
	var lags []time.Duration
	for i := range 12 {
		r.putTo(fmt.Sprintf("missing-%d", i), fmt.Sprint("m", i), "1")
		lags = append(lags, s.lagOf(t, r, fmt.Sprint("g", i)))
	}
	if longest := slices.Max(lags); longest > 5*time.Second {
		t.Errorf("a good row waited for %v: %v", longest, lags)
	}
	if stood := s.stood(); stood > 12*2*topics.MissingGrace {
		t.Errorf("the lane stood for %v", stood)
	}
	if reason := s.state().Reason; len(reason) > brief.Longest || !strings.Contains(reason, "and 9 more") {
		t.Errorf("the lane gives the reason %q", reason)
	}
	if err := r.cluster.CreateTopic("missing-7", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.await(t, "the row of the topic that exists by now is published", func(*recorder) bool { return len(r.parkedRows()["m7"]) == 0 })
	s.stop()
	r.expect("missing-7", map[string][]string{"m7": {"1"}})
	for key, rows := range r.parkedRows() {
		if !strings.HasPrefix(rows[0], "topic ") {
			t.Errorf("%s is parked as %q", key, rows)
		}
	}
}

// The timeout is one budget of the lane: topics that go away one after the other do not stop it once
// each.
func TestTheTimeoutOfTopicsIsOneBudgetOfTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const topics, budget = 8, 600 * time.Millisecond
	for i := range topics {
		topic := fmt.Sprintf("sick-%d", i)
		if err := r.cluster.CreateTopic(topic, 1, nil); err != nil {
			t.Fatal(err)
		}
		r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.TopicAuthorizationFailed, Count: 1 << 30})
	}
	cfg := r.config()
	cfg.Topics.Timeout = budget
	s := r.start(cfg)
	s.lagOf(t, r, "warm")
	for i := range topics {
		r.putTo(fmt.Sprintf("sick-%d", i), fmt.Sprint("m", i), "1")
		s.lagOf(t, r, fmt.Sprint("g", i))
	}
	s.stop()
	if stood := s.stood(); stood == 0 || stood > 3*budget {
		t.Errorf("the lane stood for %v, and its patience is %v", stood, budget)
	}
	if n := len(r.parkedRows()); n != topics {
		t.Errorf("%d aggregates are parked", n)
	}
}

// A topic that is made while its first row is under way, as where an application makes it, is not
// held.
func TestATopicThatHasJustBeenMadeIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	seen := make(chan struct{}, 100)
	r.cluster.ControlKey(int16(kmsg.Metadata), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		for _, topic := range request.(*kmsg.MetadataRequest).Topics {
			if topic.Topic != nil && *topic.Topic == "new" {
				select {
				case seen <- struct{}{}:
				default:
				}
			}
		}
		return nil, nil, false
	})
	r.putTo("new", "a", "1")
	s := r.start(r.config())
	<-seen
	if err := r.cluster.CreateTopic("new", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.awaitRows(t, 1)
	s.stop()
	for _, b := range s.batches {
		if b.Parked > 0 {
			t.Error("a row was parked for a topic that exists")
		}
	}
}

// A topic that does not exist and may not be made is held, with a reason that says so. It is made
// once that is allowed.
func TestATopicThatMayNotBeMadeIsHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var allowed atomic.Bool
	r.cluster.ControlKey(int16(kmsg.CreateTopics), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		create := request.(*kmsg.CreateTopicsRequest)
		if allowed.Load() || !slices.ContainsFunc(create.Topics, func(t kmsg.CreateTopicsRequestTopic) bool { return t.Topic == "new" }) {
			return nil, nil, false
		}
		response := create.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, topic := range create.Topics {
			denied := kmsg.NewCreateTopicsResponseTopic()
			denied.Topic, denied.ErrorCode = topic.Topic, kerr.TopicAuthorizationFailed.Code
			response.Topics = append(response.Topics, denied)
		}
		return response, nil, true
	})
	cfg := r.config() // with topics.patience at its default
	cfg.Topics.Create = true
	s := r.start(cfg)
	s.lagOf(t, r, "warm")
	r.putTo("new", "a", "1")
	s.await(t, "the row is parked", func(*recorder) bool { return len(r.parkedRows()["a"]) == 1 })
	s.lagOf(t, r, "b")
	if reason := s.state().Reason; !strings.Contains(reason, "topic new does not exist") || !strings.Contains(reason, "Create is denied") {
		t.Errorf("the lane gives the reason %q", reason)
	}
	allowed.Store(true)
	s.await(t, "the row is published", func(*recorder) bool { return len(r.parkedRows()) == 0 })
	s.stop()
	r.expect("new", map[string][]string{"a": {"1"}})
}

// Many topics that are missing at once are a few lines in log, state and parked rows.
func TestReasonsAreShort(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic)
		SELECT 'order', n, 'T', 'missing-' || n || repeat('x', 200) FROM generate_series(1, 1000) n`)
	log := new(lockedBuffer)
	cfg := r.config()
	cfg.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := r.start(cfg)
	s.await(t, "all are parked", func(rec *recorder) bool { return len(rec.batches) > 0 && rec.batches[0].Parked == 1000 })
	s.stop()
	for _, state := range s.states {
		if len(state.Reason) > brief.Longest {
			t.Errorf("a reason of %d bytes", len(state.Reason))
		}
	}
	if text := log.String(); len(text) > 20<<10 || !strings.Contains(text, "997 more") {
		t.Errorf("%d bytes of log: %.2000s", len(text), text)
	}
	if said := query[int](t, r.conn, `SELECT coalesce(max(length(reason)), 0) FROM relay_lanes`); said > brief.Longest {
		t.Errorf("the row of the lane has a reason of %d bytes", said)
	}
}
