package kafkatx

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Each id is used again only once its last transaction was seen to be closed.
func TestAnIDIsUsedAgainOnlyOnceItsTransactionIsClosed(t *testing.T) {
	m := &Markers{states: make(map[*Producer]*following), changed: make(chan struct{}), wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
	first, second := &Producer{txnID: "first"}, &Producer{txnID: "second", number: 1}
	for _, p := range []*Producer{first, second} {
		p.pool = &Pool{Markers: m}
		m.states[p] = &following{}
	}
	take := func() *Producer {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.free([]*Producer{first, second})
	}
	if take() != first || take() != second || take() != nil {
		t.Fatal("a producer was given out twice, or out of turn")
	}
	txn := &Txn{Producer: first, id: 7, epoch: 3}
	txn.places.add(orders, 1, 0)
	m.has(txn, true)
	if p := take(); p != nil {
		t.Fatalf("%s was given out before its transaction was seen to be closed", p.txnID)
	}
	ended := m.following(false)
	seen := Seen{Open: []Open{{Place: place(1), ProducerID: 7, Epoch: 3}}}
	if m.note(ended, seen); take() != nil {
		t.Fatal("a producer was given out whose transaction is open")
	}
	if m.note(ended, Seen{Unseen: map[Place]error{place(1): ErrUnsettled}}); take() != nil {
		t.Fatal("a producer was given out whose marker is on one replica only")
	}
	if m.note(ended, Seen{}); take() != first {
		t.Fatal("a producer was not given out although its transaction is closed")
	}
}

// An id whose last transaction cannot be seen on a topic is used for other topics meanwhile. Every
// transaction writes a checkpoint, so that topic must be seen.
func TestAnIDWaitsForTheCheckpointOfItsLastTransaction(t *testing.T) {
	const checkpoints = "relay.shop.checkpoints"
	for topic, free := range map[string]bool{orders: true, checkpoints: false} {
		p := &Producer{txnID: "first"}
		e := &ended{at: time.Now().Add(-2 * tellAfter), stuck: map[string]error{topic: errNoAnswer}}
		m := &Markers{checkpoints: checkpoints, states: map[*Producer]*following{p: {ended: e}}}
		if given := m.setAside([]*Producer{p}) != nil; given != free {
			t.Errorf("%s cannot be seen, and the id is used again: %t", topic, given)
		}
	}
}

func TestWhatAFormerCoordinatorSaysIsNotBelieved(t *testing.T) {
	e := &ended{Transaction: checkpoint.Transaction{ProducerID: 7, Epoch: 3}}
	for _, c := range []struct {
		state Coordinated
		known bool
	}{
		{Coordinated{State: CompleteCommit, ProducerID: 7, Epoch: 3}, false}, // of the transaction before
		{Coordinated{State: CompleteCommit, ProducerID: 7, Epoch: 4}, true},
		{Coordinated{State: Empty, ProducerID: 7, Epoch: 5}, true},
		{Coordinated{State: Empty, ProducerID: 8, Epoch: 0}, true}, // the epochs were used up
		{Coordinated{ProducerID: -1}, true},                        // forgotten
	} {
		if known := e.knownIn(c.state); known != c.known {
			t.Errorf("%+v is about the transaction: %t", c.state, known)
		}
	}
}
