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
	"github.com/outbox-relay/relay/internal/kafkatx"
)

// While a partition cannot be asked whether it has its markers, nothing is written to its topic; everything else goes on, in
// the next sessions too. Once it can be asked, its rows go out.
func TestAPartitionThatCannotBeAskedHoldsItsTopicOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.cluster.CreateTopic("healthy", 1, nil); err != nil {
		t.Fatal(err)
	}
	var away, back atomic.Bool
	r.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.DescribeProducers}, Topic: orders, Err: kerr.LeaderNotAvailable, Count: -1,
		When: func(kmsg.Request) bool { return away.Load() }})
	cfg := r.config()
	cfg.BatchRows, cfg.Topics.Patience = 5, 50*time.Millisecond
	cfg.Step = func(step Step) {
		if step == BeforeEnd && !back.Load() {
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

// Each id is used again only once its last transaction was seen to be closed.
func TestAnIDIsUsedAgainOnlyOnceItsTransactionIsClosed(t *testing.T) {
	m := &markers{states: make(map[*producer]*following), changed: make(chan struct{}), wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
	first, second := &producer{txnID: "first"}, &producer{txnID: "second", number: 1}
	for _, p := range []*producer{first, second} {
		p.markers = m
		m.states[p] = &following{}
	}
	take := func() *producer {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.free([]*producer{first, second})
	}
	if take() != first || take() != second || take() != nil {
		t.Fatal("a producer was given out twice, or out of turn")
	}
	txn := &transaction{producer: first, id: 7, epoch: 3}
	txn.places.add(orders, 1, 0)
	m.has(txn, true)
	if p := take(); p != nil {
		t.Fatalf("%s was given out before its transaction was seen to be closed", p.txnID)
	}
	ended := m.following(false)
	seen := kafkatx.Seen{Open: []kafkatx.Open{{Place: place(1), ProducerID: 7, Epoch: 3}}}
	if m.note(ended, seen); take() != nil {
		t.Fatal("a producer was given out whose transaction is open")
	}
	if m.note(ended, kafkatx.Seen{}); take() != first {
		t.Fatal("a producer was not given out although its transaction is closed")
	}
}

func TestWhatAFormerCoordinatorSaysIsNotBelieved(t *testing.T) {
	e := &ended{Transaction: checkpoint.Transaction{ProducerID: 7, Epoch: 3}}
	for _, c := range []struct {
		state kafkatx.Coordinated
		known bool
	}{
		{kafkatx.Coordinated{State: kafkatx.CompleteCommit, ProducerID: 7, Epoch: 3}, false}, // of the transaction before
		{kafkatx.Coordinated{State: kafkatx.CompleteCommit, ProducerID: 7, Epoch: 4}, true},
		{kafkatx.Coordinated{State: kafkatx.Empty, ProducerID: 7, Epoch: 5}, true},
		{kafkatx.Coordinated{State: kafkatx.Empty, ProducerID: 8, Epoch: 0}, true}, // the epochs were used up
		{kafkatx.Coordinated{ProducerID: -1}, true},                                // forgotten
	} {
		if known := e.knownIn(c.state); known != c.known {
			t.Errorf("%+v is about the transaction: %t", c.state, known)
		}
	}
}
