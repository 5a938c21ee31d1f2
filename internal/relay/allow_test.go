package relay

import (
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/topicname"
)

// The column topic leads nowhere but where the route or topics.allow say so, however a row got
// there.
func TestARowMayNameOnlyTopicsThatAreAllowed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		route  string
		allow  []string
		good   []string
		parked []string
	}{
		"by default what the route makes": {
			good: []string{orders, "outbox.event.other"}, parked: []string{"connect-configs", "outbox.events"},
		},
		"by default the topic of the route": {route: "audit", good: []string{"audit"}, parked: []string{orders, "audit2"}},
		"names and patterns":                {allow: []string{"connect-*", "audit"}, good: []string{"connect-configs", "audit"}, parked: []string{"outbox.event.other", "audit2"}},
		"never those of Kafka or the relay": {
			allow: []string{"*"}, good: []string{"connect-configs"},
			parked: []string{"__consumer_offsets", "__transaction_state", "relay.test.checkpoints", "relay.other.checkpoints"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			for _, topic := range []string{"connect-configs", "audit", "audit2", "outbox.event.other", "outbox.events"} {
				r.createTopic(topic, 1<<20)
			}
			for _, topic := range append(c.good, c.parked...) {
				r.putTo(topic, "of "+topic, "1")
			}
			cfg := r.config()
			cfg.Route, cfg.Topics.Allow = c.route, c.allow
			s := r.start(cfg)
			s.awaitRows(t, len(c.good))
			s.await(t, "the others are parked", func(*recorder) bool { return len(r.parkedRows()) >= len(c.parked) })
			s.stop()
			for _, topic := range c.good {
				r.expect(topic, map[string][]string{"of " + topic: {"1"}})
			}
			for _, topic := range c.parked {
				why := query[string](t, r.conn, `SELECT cause || ' ' || error FROM outbox_parked WHERE aggregate_id = $1`, "of "+topic)
				if !strings.HasPrefix(why, "refused ") || !topicname.Reserved(topic) && !strings.Contains(why, "topics.allow") {
					t.Errorf("a row for %s is parked: %s", topic, why)
				}
			}
		})
	}
}

// What was parked for its topic goes out once that is allowed.
func TestARowGoesOutOnceItsTopicIsAllowed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic("audit", 1<<20)
	r.putTo("audit", "a", "1")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.Topics.Allow = nil
	s := r.start(cfg)
	s.awaitRows(t, 1)
	if got := r.ask("retry", "a", nil); !strings.HasPrefix(got, "refused again: ") {
		t.Errorf("a retry before it is allowed: %q", got)
	}
	s.stop()
	cfg.Lanes = []Lane{{Name: "outbox", Table: "outbox", TopicsAllow: []string{"aud*"}}}
	s = r.start(cfg)
	if got := r.ask("retry", "a", nil); got != "published 1" {
		t.Errorf("a retry once it is allowed: %q", got)
	}
	s.stop()
	r.expect("audit", map[string][]string{"a": {"1"}})
}
