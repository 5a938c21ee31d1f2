package relay

import (
	"fmt"
	"maps"
	"slices"
)

// lastTransaction is the last batch that a transactional id has committed.
type lastTransaction struct {
	number     int // of the transactional id in the ring
	producerID int64
	epoch      int16
	topics     []string // all that it may have written to, but for the checkpoint topic
	every      bool     // too many to be listed
}

// mostTopics bounds how many topics the checkpoint lists for one transaction.
const mostTopics = 64

// LastTransactions tell a successor which transactions were committed, and where to look for their markers. They do not
// grow with rows: each transactional id has one transaction, and that lists its topics, by their places in one list.
type LastTransactions struct {
	Topics []string `json:"topics"`
	// Last is the last batch of each id.
	Last []TransactionRecord `json:"last"`
	// Unseen are earlier ones, of which some partition could not be asked whether it has the marker.
	Unseen []TransactionRecord `json:"unseen,omitempty"`
}

// TransactionRecord is a batch as the brokers know it.
type TransactionRecord struct {
	// Number is that of the transactional id in the ring.
	Number     int   `json:"n"`
	ProducerID int64 `json:"producer_id"`
	Epoch      int16 `json:"epoch"`
	// Topics are places in the list of topics; with EveryTopic there were too many to list.
	Topics     []int `json:"topics,omitempty"`
	EveryTopic bool  `json:"every_topic,omitempty"`
}

// encodeTransactions makes the field of the checkpoint.
func encodeTransactions(last map[int]lastTransaction, aside []lastTransaction) *LastTransactions {
	l := &LastTransactions{Topics: []string{}, Last: make([]TransactionRecord, 0, len(last))}
	index := make(map[string]int)
	record := func(t lastTransaction) TransactionRecord {
		r := TransactionRecord{Number: t.number, ProducerID: t.producerID, Epoch: t.epoch, EveryTopic: t.every}
		for _, topic := range t.topics {
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
	for number := range ringSize {
		if t, ok := last[number]; ok {
			l.Last = append(l.Last, record(t))
		}
	}
	for _, t := range aside {
		l.Unseen = append(l.Unseen, record(t))
	}
	return l
}

// all lists the transactions, the last ones and those unseen.
func (l *LastTransactions) all() []lastTransaction {
	if l == nil {
		return nil
	}
	return append(l.decode(l.Last), l.decode(l.Unseen)...)
}

// last returns the last transactions by the number of their id.
func (l *LastTransactions) last() map[int]lastTransaction {
	last := make(map[int]lastTransaction)
	if l != nil {
		for _, t := range l.decode(l.Last) {
			last[t.number] = t
		}
	}
	return last
}

func (l *LastTransactions) decode(records []TransactionRecord) []lastTransaction {
	all := make([]lastTransaction, 0, len(records))
	for _, r := range records {
		t := lastTransaction{number: r.Number, producerID: r.ProducerID, epoch: r.Epoch, every: r.EveryTopic}
		for _, i := range r.Topics {
			t.topics = append(t.topics, l.Topics[i])
		}
		all = append(all, t)
	}
	return all
}

// valid reports whether the field can be read.
func (l *LastTransactions) valid() bool {
	if l == nil {
		return true
	}
	for _, r := range slices.Concat(l.Last, l.Unseen) {
		if r.Number < 0 || r.Number >= ringSize {
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

// committed reports whether a transaction is one of those that the checkpoint knows to be committed.
func (l *LastTransactions) committed(producerID int64, epoch int16) bool {
	if l == nil {
		return false
	}
	return slices.ContainsFunc(slices.Concat(l.Last, l.Unseen), func(r TransactionRecord) bool {
		return r.ProducerID == producerID && r.Epoch == epoch
	})
}

// lastTransactionOf describes a batch that is about to be committed.
func lastTransactionOf(txn *transaction, topics map[string]struct{}) lastTransaction {
	t := lastTransaction{number: txn.producer.number, producerID: txn.id, epoch: txn.epoch}
	if len(topics) > mostTopics {
		t.every = true
		return t
	}
	t.topics = slices.Sorted(maps.Keys(topics))
	return t
}

// blockedError names topics that nothing may be written to now.
type blockedError struct{ topics map[string]error }

func (e *blockedError) Error() string {
	for topic, cause := range e.topics {
		return fmt.Sprintf("nothing may be written to topic %s now: %v", topic, cause)
	}
	return ""
}

// enlist lists the last transactions, with that of a batch which is about to be produced, for its checkpoint. The error says
// that nothing may be written to a topic of the batch.
func (s *session) enlist(b *batch, pl *plan) (*LastTransactions, error) {
	topics := make(map[string]struct{})
	last := ""
	for i := range b.page.records {
		if pl.drop != nil && pl.drop[i] {
			continue
		}
		if topic := b.page.records[i].Topic; topic != last {
			last = topic
			topics[topic] = struct{}{}
		}
	}
	if blocked := s.ring.markers.blocked(topics); blocked != nil {
		return nil, &blockedError{blocked}
	}
	// A batch that is not committed is followed by none that is, so its checkpoint is not read.
	s.lastOf[b.txn.producer.number] = lastTransactionOf(b.txn, topics)
	return encodeTransactions(s.lastOf, s.ring.markers.setAsides()), nil
}
