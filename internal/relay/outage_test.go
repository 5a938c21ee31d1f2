package relay

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// If a topic is unavailable, only its own aggregates wait, and they go out by themselves.
func TestATopicThatIsAwayHoldsItsAggregatesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	onto := func(key, topic, value string) {
		exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', $1, 'T', $2, $3)`, key, topic, []byte(value))
	}
	onto("a", "late", "1")
	r.putEvent("a", "2")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.Topics.Timeout = 50 * time.Millisecond
	s := r.start(cfg)
	s.awaitRows(t, 1)
	onto("a", "late", "3")
	onto("c", "late", "1")
	r.putEvent("b", "2")
	s.awaitRows(t, 2)
	if status := s.state(); status.State != Running || !strings.Contains(status.Reason, "topic late is unavailable") ||
		!slices.Equal(status.Causes, []Cause{CauseTopic}) {
		t.Errorf("the lane says %s: %s, %v", status.State, status.Reason, status.Causes)
	}
	s.stop()
	r.expect(orders, map[string][]string{"b": {"1", "2"}})
	s = r.start(cfg) // what is held is known to the next owner
	r.putEvent("b", "3")
	s.awaitRows(t, 1)
	if err := r.cluster.CreateTopic("late", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.await(t, "all is published", func(rec *recorder) bool { return rec.rows == 5 })
	r.putEvent("b", "4")
	onto("a", "late", "4")
	s.await(t, "all is published", func(rec *recorder) bool { return rec.rows == 7 })
	s.stop()
	r.expect(orders, map[string][]string{"a": {"2"}, "b": {"1", "2", "3", "4"}})
	r.expect("late", map[string][]string{"a": {"1", "3", "4"}, "c": {"1"}})
	r.expectParked(nil)
	if status := s.state(); status.Reason != "" {
		t.Errorf("the lane still says %q", status.Reason)
	}
}

// A denied topic is found out by writing to it.
func TestADeniedTopicHoldsItsAggregatesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.cluster.CreateTopic("denied", 1, nil); err != nil {
		t.Fatal(err)
	}
	r.denyWrites("denied", 4)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'a', 'T', 'denied', '1')`)
	r.putEvent("a", "2")
	r.putEvent("b", "1")
	cfg := r.config()
	cfg.Topics.Timeout = 30 * time.Millisecond
	s := r.start(cfg)
	s.await(t, "b goes out before a", func(rec *recorder) bool { return rec.rows == 1 })
	r.expect(orders, map[string][]string{"b": {"1"}})
	s.await(t, "a goes out once it may", func(rec *recorder) bool { return rec.rows == 3 })
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers", len(s.takeovers))
	}
	r.expect("denied", map[string][]string{"a": {"1"}})
	r.expect(orders, map[string][]string{"a": {"2"}, "b": {"1"}})
}

// denyWrites refuses the first n batches for a topic.
func (r *rig) denyWrites(topic string, n int) {
	left := make(chan int, 1)
	left <- n
	id := r.cluster.TopicInfo(topic).TopicID
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		denied := false
		for _, t := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition = p.Partition
				if t.Topic == topic || t.TopicID == id && id != [16]byte{} {
					denied, part.ErrorCode = true, kerr.TopicAuthorizationFailed.Code
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		count := <-left
		if denied = denied && count > 0; denied {
			count--
		}
		left <- count
		return response, nil, denied
	})
}
