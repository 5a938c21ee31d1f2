package relay

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// While a partition cannot be asked whether it has its markers, nothing is written to its topic;
// everything else goes on, in the next sessions too. Once it can be asked, its rows go out.
func TestAPartitionThatCannotBeAskedHoldsItsTopicOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.cluster.CreateTopic("healthy", 1, nil); err != nil {
		t.Fatal(err)
	}
	var away, back atomic.Bool
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeProducers, kmsg.ListOffsets}, Topic: orders,
		Err: kerr.LeaderNotAvailable, Count: -1, When: func(kmsg.Request) bool { return away.Load() }})
	cfg := r.config()
	cfg.BatchRows, cfg.Topics.Timeout = 5, 50*time.Millisecond
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeEnd && !back.Load() {
			away.Store(true)
		}
	}
	want := r.insertOrders(50, "v")
	healthy := func(value string) {
		exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'h', 'T', 'healthy', $1)`, []byte(value))
	}
	s := r.start(cfg)
	for i := range 2 * checkpoint.PoolSize {
		healthy(fmt.Sprint(i))
	}
	s.await(t, "the healthy topic has its rows", func(*recorder) bool {
		return s.state().Seq > 0 && len(r.records("healthy", false)) == 2*checkpoint.PoolSize
	})
	if reason := s.relay.Status()[0].Reason; !strings.Contains(reason, orders+"/") || !strings.Contains(reason, "cannot be asked") {
		t.Errorf("the lane gives as its reason %q", reason)
	}
	s.stop()
	again := r.start(cfg)
	healthy("after a takeover")
	again.await(t, "the healthy topic has its row", func(*recorder) bool { return len(r.records("healthy", false)) == 2*checkpoint.PoolSize+1 })
	back.Store(true) // the relay that runs may be at this step, so its word comes first
	again.stop()
	away.Store(false)
	insert(t, r.conn, "end", "end")
	r.start(cfg)
	r.awaitEnd(orders)
	eventuallyParked(t, r)
	r.expect(orders, merge(want, theEnd))
}

// eventuallyParked waits until nothing is parked any more.
func eventuallyParked(t *testing.T, r *rig) {
	t.Helper()
	for deadline := time.Now().Add(patience); query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("rows are still parked")
		}
	}
}
