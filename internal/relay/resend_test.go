package relay

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// One topic is unavailable for longer than a record may wait for its delivery. The rows of the
// others in that batch are sent then.
func TestAnOutageOfOneTopicDoesNotSpreadToOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.cluster.CreateTopic("sick", 1, nil); err != nil {
		t.Fatal(err)
	}
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "sick", Err: kerr.NotEnoughReplicas, Count: 1 << 30})
	exec(t, r.conn, `BEGIN`)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'a', 'T', 'sick', '1')`)
	r.putEvent("b", "1")
	exec(t, r.conn, `COMMIT`)
	cfg := r.config()
	cfg.TransactionTimeout, cfg.Topics.Timeout = time.Second, 3*time.Second
	cfg.KafkaOptions = append(cfg.KafkaOptions, kgo.RecordRetries(3))
	s := r.start(cfg)
	s.await(t, "b is published or parked", func(rec *recorder) bool { return rec.rows == 1 || len(r.parkedRows()["b"]) > 0 })
	s.stop()
	r.expect(orders, map[string][]string{"b": {"1"}})
	if rows := r.parkedRows()["b"]; len(rows) > 0 {
		t.Errorf("%q are parked for the outage of another topic; states %v", rows, s.states)
	}
}
