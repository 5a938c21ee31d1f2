package relay

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

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
	for i := range 2 * ringSize {
		healthy(fmt.Sprint(i))
	}
	s.await(t, "the healthy topic has its rows", func(*recorder) bool { return s.state().Seq > 0 && len(r.records("healthy", false)) == 2*ringSize })
	if reason := s.relay.Status()[0].Reason; !strings.Contains(reason, orders+"/") || !strings.Contains(reason, "cannot be asked") {
		t.Errorf("the lane gives as its reason %q", reason)
	}
	s.stop()
	again := r.start(cfg)
	healthy("after a takeover")
	again.await(t, "the healthy topic has its row", func(*recorder) bool { return len(r.records("healthy", false)) == 2*ringSize+1 })
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
	txn.places.add(orders, 1)
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

func TestTheCheckpointListsTransactionsInBoundedSpace(t *testing.T) {
	few, many := map[string]struct{}{"b": {}, "a": {}}, make(map[string]struct{})
	for i := range mostTopics + 1 {
		many[fmt.Sprint("topic", i)] = struct{}{}
	}
	last := make(map[int]lastTransaction)
	for number := range ringSize {
		topics := few
		if number == 3 {
			topics = many
		}
		txn := &transaction{producer: &producer{number: number}, id: int64(100 + number), epoch: int16(number)}
		last[number] = lastTransactionOf(txn, topics)
	}
	aside := lastTransaction{number: 2, producerID: 90, epoch: 9, topics: []string{"c"}}
	encoded := encodeTransactions(last, []lastTransaction{aside})
	value, err := json.Marshal(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if len(value) > 600 {
		t.Errorf("%d bytes: %s", len(value), value)
	}
	var decoded LastTransactions
	if err := json.Unmarshal(value, &decoded); err != nil || !decoded.valid() {
		t.Fatalf("%v: %s", err, value)
	}
	equal := func(a, b lastTransaction) bool {
		return a.number == b.number && a.producerID == b.producerID && a.epoch == b.epoch && a.every == b.every && slices.Equal(a.topics, b.topics)
	}
	if got := decoded.last(); !maps.EqualFunc(got, last, equal) {
		t.Errorf("got %+v, want %+v", got, last)
	}
	if all := decoded.all(); len(all) != ringSize+1 || !equal(all[ringSize], aside) {
		t.Errorf("got %+v", all)
	}
	if !decoded.committed(90, 9) || !decoded.committed(103, 3) || decoded.committed(103, 4) || (*LastTransactions)(nil).committed(103, 3) {
		t.Error("what was committed is not told from what was not")
	}
	decoded.Last[0].Topics = []int{99}
	if decoded.valid() {
		t.Error("a place outside of the list of topics is taken")
	}
}
