package relay

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refuseLarger makes the broker refuse batches of one partition that are larger than it says.
func (r *rig) refuseLarger(bytes int) {
	r.cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		bad := false
		for _, topic := range produce.Topics {
			answer := kmsg.NewProduceResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				part := kmsg.NewProduceResponseTopicPartition()
				part.Partition = partition.Partition
				if len(partition.Records) > bytes {
					bad, part.ErrorCode = true, kerr.MessageTooLarge.Code
				}
				answer.Partitions = append(answer.Partitions, part)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, bad
	})
}

// A topic takes smaller batches than it says. Rows that it takes one by one are sent, however large
// they are.
func TestRowsThatATopicTakesOneByOneAreNotRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refuseLarger(700_000)
	exec(t, r.conn, `BEGIN`)
	r.putEvent("a", strings.Repeat("1", 600_000))
	r.putEvent("a", strings.Repeat("2", 300_000))
	exec(t, r.conn, `COMMIT`)
	cfg := r.config()
	cfg.Compression = "none"
	s := r.start(cfg)
	done := func(n int) func(*recorder) bool {
		return func(rec *recorder) bool { return rec.rows == n || len(r.parkedRows()) > 0 }
	}
	s.await(t, "both are published or parked", done(2))
	r.putEvent("a", strings.Repeat("3", 650_000)) // more than it was tried with
	s.await(t, "all are published or parked", done(3))
	s.stop()
	for key, rows := range r.parkedRows() {
		t.Errorf("%d rows of %s are parked, which the topic takes", len(rows), key)
	}
}
