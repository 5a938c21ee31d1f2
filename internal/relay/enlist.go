package relay

import (
	"fmt"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/parking"
)

// blockedError names topics that nothing may be written to now.
type blockedError struct{ topics map[string]error }

func (e *blockedError) Error() string {
	for topic, cause := range e.topics {
		return fmt.Sprintf("nothing may be written to topic %s now: %v", topic, cause)
	}
	return ""
}

// enlist lists the last transactions, with that of a batch which is about to be produced, for its
// checkpoint. The error says that nothing may be written to a topic of the batch.
func (s *session) enlist(b *batch, pl *parking.Plan) (*checkpoint.Transactions, error) {
	topics := make(map[string]struct{})
	last := ""
	for i := range b.page.Records {
		if pl.Drop != nil && pl.Drop[i] {
			continue
		}
		if topic := b.page.Records[i].Topic; topic != last {
			last = topic
			topics[topic] = struct{}{}
		}
	}
	if blocked := s.producers.Markers.Blocked(topics); blocked != nil {
		return nil, &blockedError{blocked}
	}
	// A batch that is not committed is followed by none that is, so its checkpoint is not read.
	transaction := b.txn.Describe(topics)
	s.lastOf[transaction.Number] = transaction
	return checkpoint.NewTransactions(s.lastOf, s.producers.Markers.SetAsides()), nil
}
