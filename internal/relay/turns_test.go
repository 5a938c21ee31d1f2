package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// While many parked rows go out, new rows do not wait for the last of them.
func TestNewRowsTakeTurnsWithParkedOnes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.BatchRows, cfg.Topics.Timeout, cfg.Topics.Create = 5, 50*time.Millisecond, false
	const parked = 400
	exec(t, r.conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload)
SELECT 'order', 'waits', 'T', 'late', convert_to(n::text, 'UTF8') FROM generate_series(1, %d) n`, parked))
	s := r.start(cfg)
	for query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`) < parked {
		if time.Sleep(10 * time.Millisecond); t.Context().Err() != nil {
			t.Fatal("the rows of the topic that is missing are not parked")
		}
	}
	if err := r.cluster.CreateTopic("late", 1, nil); err != nil {
		t.Fatal(err)
	}
	s.await(t, "some parked rows went out", func(s *recorder) bool { return s.rows > 0 })
	const fresh = 3
	for i := range fresh {
		insert(t, r.conn, "new", fmt.Sprint(i))
		r.awaitRecord(orders, func(record *kgo.Record) bool { return string(record.Value) == fmt.Sprint(i) })
	}
	if left := query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`); left == 0 {
		t.Error("new rows waited for all that was parked")
	}
	s.awaitRows(t, parked+fresh)
}
