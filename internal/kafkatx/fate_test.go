package kafkatx

import (
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// What is open was committed, or aborted, or cannot be known: by what the coordinator says, and by
// the checkpoint.
func TestATransactionThatWasLeftOpenIsDecidedAsItWasDecided(t *testing.T) {
	known := &checkpoint.Record{Transactions: &checkpoint.Transactions{
		Last:   []checkpoint.TransactionRecord{{Number: 0, ProducerID: 7, Epoch: 4}},
		Unseen: []checkpoint.TransactionRecord{{Number: 0, ProducerID: 7, Epoch: 2}, {Number: 0, ProducerID: 6, Epoch: 32766}},
	}}
	here := Partitions{orders: {1}}
	for name, c := range map[string]struct {
		open  Open
		state Coordinated
		last  *checkpoint.Record
		final bool
		want  fate
	}{
		"under way":                     {epoch(4), Coordinated{State: Ongoing, ProducerID: 7, Epoch: 4, Partitions: here}, nil, false, running},
		"committed":                     {epoch(4), Coordinated{State: CompleteCommit, ProducerID: 7, Epoch: 5}, nil, false, commits},
		"its markers are being written": {epoch(4), Coordinated{State: "PrepareCommit", ProducerID: 7, Epoch: 4}, nil, false, running},
		"its markers are being written, and it was fenced": {epoch(4), Coordinated{State: "PrepareAbort", ProducerID: 7, Epoch: 5}, nil, true, running},
		"aborted by its producer":                          {epoch(4), Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 5}, nil, false, aborts},
		"aborted by a fence":                               {epoch(4), Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 6}, nil, false, aborts},
		"begun after the answer":                           {epoch(5), Coordinated{State: CompleteCommit, ProducerID: 7, Epoch: 5}, nil, false, undecided},
		"taken since, and in the checkpoint":               {epoch(4), Coordinated{State: Empty, ProducerID: 7, Epoch: 6}, known, false, commits},
		"set aside, and in the checkpoint":                 {epoch(2), Coordinated{State: Empty, ProducerID: 7, Epoch: 6}, known, true, commits},
		"a later abort does not take a commit along":       {epoch(4), Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 6}, known, false, commits},
		"taken since, before the fence":                    {epoch(5), Coordinated{State: Empty, ProducerID: 7, Epoch: 7}, known, false, undecided},
		"taken since, after the fence":                     {epoch(5), Coordinated{State: Empty, ProducerID: 7, Epoch: 7}, known, true, aborts},
		"an old checkpoint that tells nothing":             {epoch(5), Coordinated{State: Empty, ProducerID: 7, Epoch: 7}, &checkpoint.Record{}, true, undecided},
		"a lane without any batch":                         {epoch(5), Coordinated{State: Empty, ProducerID: 7, Epoch: 7}, nil, true, aborts},
		"another transaction of its id is under way there": {epoch(4), Coordinated{State: Ongoing, ProducerID: 7, Epoch: 6, Partitions: here}, known, false, clash},
		"another transaction of its id is under way elsewhere": {
			epoch(4), Coordinated{State: Ongoing, ProducerID: 7, Epoch: 6, Partitions: Partitions{orders: {2}}}, known, false, commits,
		},
		"its id has another producer id": {
			Open{Place: place(1), ProducerID: 6, Epoch: 32766}, Coordinated{State: Empty, ProducerID: 7}, known, false, commits,
		},
		"of somebody else": {Open{Place: place(1), ProducerID: 99}, Coordinated{State: Empty, ProducerID: 7}, known, true, foreign},
	} {
		if got := (&Closing{last: c.last, final: c.final}).fateOf(c.open, c.state); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func place(partition int32) Place { return Place{Topic: orders, Partition: partition} }

func epoch(e int16) Open { return Open{Place: place(1), ProducerID: 7, Epoch: e} }

// A checkpoint of a relay that did not list transactions decides nothing.
func TestAnOpenTransactionThatNobodyCanDecideHaltsTheLane(t *testing.T) {
	c := &Closing{pool: &Pool{o: PoolOptions{Broker: "b:9092"}}}
	err := c.halt("relay.test.outbox.0", epoch(4), undecided)
	for _, text := range []string{"orders/1", "epoch 4", "kafka-transactions.sh --bootstrap-server b:9092 abort", "read_uncommitted"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v does not say %q", err, text)
		}
	}
}

// A record of the checkpoint that cannot be read does not make the transactions that it may have
// named aborted ones.
func TestAnUnreadableCheckpointDecidesNoTransaction(t *testing.T) {
	unread := (&checkpoint.UnreadableError{Offset: 7}).Placeholder()
	for name, c := range map[string]struct {
		state Coordinated
		final bool
		want  fate
	}{
		"taken since":                     {Coordinated{State: Empty, ProducerID: 7, Epoch: 6}, true, undecided},
		"a later abort, before the fence": {Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 6}, false, undecided},
		"a later abort":                   {Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 6}, true, undecided},
		"committed":                       {Coordinated{State: CompleteCommit, ProducerID: 7, Epoch: 5}, false, commits},
		"aborted by its producer":         {Coordinated{State: CompleteAbort, ProducerID: 7, Epoch: 5}, false, aborts},
	} {
		if got := (&Closing{last: unread, final: c.final}).fateOf(epoch(4), c.state); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}
