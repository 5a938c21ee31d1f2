package checkpoint

import (
	"maps"
	"slices"
)

// Transaction is the last batch that a transactional id has committed.
type Transaction struct {
	Number     int // of the transactional id in the producer pool
	ProducerID int64
	Epoch      int16
	Topics     []string // all that it may have written to, but for the checkpoint topic
	EveryTopic bool     // too many to be listed
}

// PoolSize is how many transactional ids a lane has. It is part of the protocol and no setting: the
// record names them by number, and a takeover must fence all of them.
const PoolSize = 6

// mostTopics bounds how many topics the checkpoint lists for one transaction.
const mostTopics = 64

// Transactions tell a successor which transactions were committed, and where to look for their
// markers. They do not grow with rows: each transactional id has one transaction, and that lists
// its topics, by their places in one list.
type Transactions struct {
	Topics []string `json:"topics"`
	// Last is the last batch of each id.
	Last []TransactionRecord `json:"last"`
	// Unseen are earlier ones, of which some partition could not be asked whether it has the
	// marker.
	Unseen []TransactionRecord `json:"unseen,omitempty"`
}

// TransactionRecord is a batch as the brokers know it.
type TransactionRecord struct {
	// Number is that of the transactional id in the producer pool.
	Number     int   `json:"n"`
	ProducerID int64 `json:"producer_id"`
	Epoch      int16 `json:"epoch"`
	// Topics are places in the list of topics; with EveryTopic there were too many to list.
	Topics     []int `json:"topics,omitempty"`
	EveryTopic bool  `json:"every_topic,omitempty"`
}

// NewTransaction describes a batch that is about to be committed, and the topics that it writes to.
func NewTransaction(number int, producerID int64, epoch int16, topics map[string]struct{}) Transaction {
	t := Transaction{Number: number, ProducerID: producerID, Epoch: epoch}
	if len(topics) > mostTopics {
		t.EveryTopic = true
		return t
	}
	t.Topics = slices.Sorted(maps.Keys(topics))
	return t
}

// NewTransactions makes the field of the checkpoint.
func NewTransactions(last map[int]Transaction, aside []Transaction) *Transactions {
	l := &Transactions{Topics: []string{}, Last: make([]TransactionRecord, 0, len(last))}
	index := make(map[string]int)
	record := func(t Transaction) TransactionRecord {
		r := TransactionRecord{Number: t.Number, ProducerID: t.ProducerID, Epoch: t.Epoch, EveryTopic: t.EveryTopic}
		for _, topic := range t.Topics {
			i, ok := index[topic]
			if !ok {
				i = len(l.Topics)
				index[topic] = i
				l.Topics = append(l.Topics, topic)
			}
			r.Topics = append(r.Topics, i)
		}
		return r
	}
	for number := range PoolSize {
		if t, ok := last[number]; ok {
			l.Last = append(l.Last, record(t))
		}
	}
	for _, t := range aside {
		l.Unseen = append(l.Unseen, record(t))
	}
	return l
}

// All lists the transactions, the last ones and those unseen.
func (l *Transactions) All() []Transaction {
	if l == nil {
		return nil
	}
	return append(l.decode(l.Last), l.decode(l.Unseen)...)
}

// ByNumber returns the last transactions by the number of their id.
func (l *Transactions) ByNumber() map[int]Transaction {
	last := make(map[int]Transaction)
	if l != nil {
		for _, t := range l.decode(l.Last) {
			last[t.Number] = t
		}
	}
	return last
}

func (l *Transactions) decode(records []TransactionRecord) []Transaction {
	all := make([]Transaction, 0, len(records))
	for _, r := range records {
		t := Transaction{Number: r.Number, ProducerID: r.ProducerID, Epoch: r.Epoch, EveryTopic: r.EveryTopic}
		for _, i := range r.Topics {
			t.Topics = append(t.Topics, l.Topics[i])
		}
		all = append(all, t)
	}
	return all
}

// valid reports whether the field can be read.
func (l *Transactions) valid() bool {
	if l == nil {
		return true
	}
	for _, r := range slices.Concat(l.Last, l.Unseen) {
		if r.Number < 0 || r.Number >= PoolSize {
			return false
		}
		for _, i := range r.Topics {
			if i < 0 || i >= len(l.Topics) {
				return false
			}
		}
	}
	return true
}

// Committed reports whether a transaction is one of those that the checkpoint knows to be
// committed.
func (l *Transactions) Committed(producerID int64, epoch int16) bool {
	if l == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(l.Last, l.Unseen), func(r TransactionRecord) bool {
		return r.ProducerID == producerID && r.Epoch == epoch
	})
}
