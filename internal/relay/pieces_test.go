package relay

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// refuseLarger makes the broker refuse batches of one partition that are larger than it says. It
// counts what is refused.
func (r *rig) refuseLarger(bytes int) (refused *atomic.Int64) {
	refused = new(atomic.Int64)
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
		if bad {
			refused.Add(1)
		}
		return response, nil, bad
	})
	return refused
}

// A topic takes smaller batches than it says. Rows that it takes one by one are sent, however large
// they are.
func TestRowsThatATopicTakesOneByOneAreNotRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	refused := r.refuseLarger(700_000)
	cfg := r.config()
	cfg.Compression = "none"
	s := r.start(cfg)
	rows := 0
	for _, together := range [][]int{
		{600_000, 300_000}, // less than the topic says
		{400_000, 350_000}, // less than the margin below that
		{650_000},          // more than it was tried with
	} {
		exec(t, r.conn, `BEGIN`)
		for _, size := range together {
			r.putEvent("a", strings.Repeat("x", size))
		}
		exec(t, r.conn, `COMMIT`)
		rows += len(together)
		s.await(t, "all are published or parked", func(rec *recorder) bool { return rec.rows == rows || len(r.parkedRows()) > 0 })
	}
	s.stop()
	for key, rows := range r.parkedRows() {
		t.Errorf("%d rows of %s are parked, which the topic takes", len(rows), key)
	}
	if n := refused.Load(); n > 4 || len(s.takeovers) != 1 {
		t.Errorf("batches were refused %d times, in %d sessions", n, len(s.takeovers))
	}
}
