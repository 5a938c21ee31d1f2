package inbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/outbox-relay/relay/inbox/internal/failure"
)

// BatchError is an error of a handler of batches that names the message it is about. See At.
type BatchError struct {
	// Index is the place of the message among those that the handler was called with, from 0.
	Index int
	Err   error
}

// Error names the place.
func (e *BatchError) Error() string {
	return fmt.Sprintf("message %d of the batch: %v", e.Index, e.Err)
}

// Unwrap returns the error itself.
func (e *BatchError) Unwrap() error { return e.Err }

// At tells HandleBatch which of the messages that a handler was called with an error is about: the
// one at the index, from 0. The others are then handled in one more transaction, instead of being
// searched through in halves. Permanent may stand inside or outside. An index that is wrong costs
// time: the message that it names is tried again alone, also before it is parked, and an index that
// no message has is ignored. Nil stays nil.
func At(index int, err error) error {
	if err == nil {
		return nil
	}
	return &BatchError{index, err}
}

// named returns the place of the message that the error of a handler names. An error that only says
// that an earlier statement has failed names the wrong one.
func (a *attempt[TTx]) named(err error) (place int, ok bool) {
	e, found := errors.AsType[*BatchError](err)
	if !found || e.Index < 0 || e.Index >= len(a.fresh) {
		return 0, false
	}
	if state, _ := failure.SQLState(err); state == failure.InFailedTransaction {
		return 0, false
	}
	return a.fresh[e.Index], true
}

// without handles the places without the one that the handler has named, then that one, and then
// those behind it.
func (b *batch[TTx]) without(ctx context.Context, places []int, bad int, err error) error {
	key, ordered := keyOf(b.messages[bad])
	var others, behind []int
	for _, n := range places {
		other, _ := keyOf(b.messages[n])
		switch {
		case n == bad:
		case n > bad && ordered && other == key:
			behind = append(behind, n)
		default:
			others = append(others, n)
		}
	}
	last := slices.Concat([]int{bad}, behind)
	if herr := b.handle(ctx, others); herr != nil {
		b.failAll(last, herr)
		return herr
	}
	switch {
	case ordered && b.blocked[key]: // an earlier one of its key has failed
		b.deferAll(last)
		return nil
	case IsPermanent(err):
		// A parked message stays parked, so it has to fail alone as well.
		return b.handleInTurn(ctx, last[:1], behind)
	}
	b.inbox.ledger.Ended(ctx, b.ids[bad])
	b.fail(bad, err)
	return b.handle(ctx, behind)
}

// handleInTurn handles the one, and then the others.
func (b *batch[TTx]) handleInTurn(ctx context.Context, first, second []int) error {
	if err := b.handle(ctx, first); err != nil {
		b.failAll(second, err)
		return err
	}
	return b.handle(ctx, second)
}
