package pipeline

import (
	"fmt"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/parking"
)

// transactions are the last of each transactional id, by its number, which a checkpoint lists. The
// publisher uses them.
type transactions struct {
	last    map[int]checkpoint.Transaction
	markers *kafkatx.Markers
}

// blockedError names topics that nothing may be written to now.
type blockedError struct{ topics map[string]error }

func (e *blockedError) Error() string {
	for topic, cause := range e.topics {
		return fmt.Sprintf("nothing may be written to topic %s now: %v", topic, cause)
	}
	return ""
}

// with lists them with that of a batch which is about to be produced, for its checkpoint. The error
// says that nothing may be written to a topic of the batch.
func (t *transactions) with(b *pending, plan *parking.Plan) (*checkpoint.Transactions, error) {
	topics := make(map[string]struct{})
	last := ""
	for i := range b.page.Records {
		if plan.Drop != nil && plan.Drop[i] {
			continue
		}
		if topic := b.page.Records[i].Topic; topic != last {
			last = topic
			topics[topic] = struct{}{}
		}
	}
	if blocked := t.markers.Blocked(topics); blocked != nil {
		return nil, &blockedError{blocked}
	}
	// A batch that is not committed is followed by none that is, so its checkpoint is not read.
	transaction := b.txn.Describe(topics)
	t.last[transaction.Number] = transaction
	return checkpoint.NewTransactions(t.last, t.markers.SetAsides()), nil
}
