package relay

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// away makes the broker answer every write to a topic as one that does not lead its partitions.
func (r *rig) away(topic string) {
	info := r.cluster.TopicInfo(topic)
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		mine := false
		for _, t := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = t.Topic, t.TopicID
			for _, partition := range t.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition = partition.Partition
				if t.Topic == topic || t.TopicID == info.TopicID && info.TopicID != [16]byte{} {
					mine, part.ErrorCode = true, kerr.NotLeaderForPartition.Code
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, mine
	})
}

// Brokers delete records by their timestamps. The clock of the relay's host may be wrong by days;
// that of the database is what counts. Nor does a record wait longer, or shorter, for a topic that
// is unavailable.
func TestRecordsBearTheTimeOfTheDatabase(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{"behind": -10 * 24 * time.Hour, "ahead": 10 * 24 * time.Hour, "right": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			began := time.Now()
			var log lockedBuffer
			cfg := r.config()
			cfg.databaseTime = func(now time.Time) time.Time { return now.Add(-wrong) }
			cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			// Written long ago, as after an outage: that is no time for a record either.
			r.putEvent("old", "old")
			exec(t, r.conn, `UPDATE outbox SET created_at = now() - interval '30 days'`)
			s := r.start(cfg)
			s.awaitRows(t, 1)
			r.putEvent("end", "end")
			r.awaitEnd(orders)
			s.stop()
			for _, topic := range []string{orders, checkpoint.TopicName("test")} {
				for _, record := range r.records(topic, false) {
					database := record.Timestamp.Add(wrong)
					if database.Before(began.Add(-time.Second)) || database.After(time.Now().Add(time.Second)) {
						t.Errorf("%s: the record of %s bears %v, %v from the time of the database", topic, record.Key, record.Timestamp,
							time.Until(database))
					}
				}
			}
			if d := s.deviation - wrong; d.Abs() > 5*time.Second {
				t.Errorf("the deviation is %v, want %v", s.deviation, wrong)
			}
			if warned := strings.Contains(log.String(), "differs from that of the database"); warned != (wrong != 0) {
				t.Errorf("warned: %t\n%s", warned, log.String())
			}
		})
	}
}

// What cannot be delivered within a transaction is given up by the time that has passed, whatever
// the clocks say.
func TestATopicWithoutALeaderIsHeldWhateverTheClocksSay(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]time.Duration{"behind": -time.Hour, "ahead": time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			if err := r.cluster.CreateTopic("other", 1, nil); err != nil {
				t.Fatal(err)
			}
			r.away("other")
			cfg := r.config()
			cfg.databaseTime = func(now time.Time) time.Time { return now.Add(-wrong) }
			cfg.TransactionTimeout, cfg.Topics.Timeout = time.Second, 100*time.Millisecond
			exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'a', 'T', 'other', 'a')`)
			r.putEvent("end", "end")
			s := r.start(cfg)
			r.awaitRecord(orders, func(record *kgo.Record) bool { return string(record.Key) == "end" })
			s.stop()
			r.expectParked(map[string][]string{"a": {"topic a"}})
		})
	}
}
