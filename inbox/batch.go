package inbox

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxdriver"
	"github.com/outbox-relay/relay/inbox/internal/failure"
	"github.com/outbox-relay/relay/inbox/internal/ledger"
	"github.com/outbox-relay/relay/inbox/internal/tables"
)

// HandleBatch handles many messages in few transactions, mostly one. It marks them in one statement
// and calls handler once with those that are fresh, in their order. It returns one outcome for each
// message, in the order of messages.
//
// If a call fails the transaction is rolled back, and the messages are tried again in two halves,
// each in its own transaction, and so on down to the one that fails: a bad message does not fail
// its neighbours, and a failure that comes only with COMMIT (a deferred constraint) is found in the
// same way. A handler that knows the bad message names it by At, which saves the search. So handler
// may be called several times for one message, and changes nothing but the database; the effects of
// one call stay, or none. Later messages of the key of a failed one are Deferred. If nearly every
// call fails, the rest is Deferred too: it is not known which of them are bad, and the caller tries
// again later. A call that is not done in time is not split, since each part could take as long:
// all are Failed, to be tried one by one.
//
// The error is for what is about all of them: the database is unavailable, or ctx has ended.
// Messages that were decided before have their outcome even so.
func (i *Inbox[TTx]) HandleBatch(
	ctx context.Context, messages []Message, handler func(ctx context.Context, tx TTx, messages []Message) error,
) ([]Outcome, error) {
	b := &batch[TTx]{
		inbox: i, handler: handler, messages: messages, ids: make([]ledger.Identity, len(messages)),
		outcomes: make([]Outcome, len(messages)), blocked: map[orderKey]bool{},
		budget: 4 + 2*bits.Len(uint(len(messages))),
	}
	places := make([]int, 0, len(messages))
	for n, m := range messages {
		if err := m.check(); err != nil {
			b.fail(n, err)
			continue
		}
		b.ids[n] = m.identity()
		places = append(places, n)
	}
	err := b.handle(ctx, places)
	if err != nil {
		err = fmt.Errorf("handle a batch of %d messages: %w", len(messages), err)
	}
	return b.outcomes, err
}

// orderKey is what stays in order. Messages without a key have none.
type orderKey struct {
	topic, key string
}

func keyOf(m Message) (orderKey, bool) { return orderKey{m.Topic, string(m.Key)}, m.Key != nil }

// batch is one call of HandleBatch.
type batch[TTx any] struct {
	inbox    *Inbox[TTx]
	handler  func(context.Context, TTx, []Message) error
	messages []Message
	ids      []ledger.Identity
	outcomes []Outcome
	// blocked are the keys of which a message failed, or was deferred.
	blocked map[orderKey]bool
	// budget is how many more calls may fail: a search for one bad message among n takes log2(n).
	budget int
}

func (b *batch[TTx]) fail(n int, err error) {
	b.outcomes[n] = Outcome{Failed, err}
	if key, ordered := keyOf(b.messages[n]); ordered {
		b.blocked[key] = true
	}
}

// handle decides the messages at the places, which are in order.
func (b *batch[TTx]) handle(ctx context.Context, places []int) error {
	places = b.unblocked(places)
	if len(places) == 0 {
		return nil
	}
	tried := &attempt[TTx]{batch: b, places: places}
	err := b.inbox.ledger.Rerun(ctx, func() error { return tried.run(ctx) })
	switch {
	case err == nil:
		tried.keep()
		return nil
	case ctx.Err() != nil || IsUnavailable(err):
		b.failAll(places, err)
		return err
	case errors.Is(err, ErrTimeout):
		b.failAll(places, err)
		return nil
	}
	suspects := tried.fresh
	if len(suspects) == 0 {
		suspects = places
	}
	if len(suspects) == 1 {
		return b.single(ctx, places, suspects[0], err)
	}
	b.budget--
	if b.budget < 0 {
		b.deferAll(places)
		return nil
	}
	if bad, named := tried.named(err); named {
		return b.without(ctx, places, bad, err)
	}
	first, second := split(places, suspects[len(suspects)/2])
	return b.handleInTurn(ctx, first, second)
}

// single is one bad message, found among places that are otherwise seen or parked already.
func (b *batch[TTx]) single(ctx context.Context, places []int, bad int, err error) error {
	before, after := split(places, bad)
	if herr := b.handle(ctx, before); herr != nil {
		b.failAll(after, herr)
		return herr
	}
	b.inbox.ledger.Ended(ctx, b.ids[bad])
	if IsPermanent(err) {
		result, perr := b.inbox.Park(ctx, b.messages[bad], CausePermanent, 1, err)
		if perr != nil {
			b.failAll(after, perr)
			return perr
		}
		b.outcomes[bad] = Outcome{result, err}
	} else {
		b.fail(bad, err)
	}
	return b.handle(ctx, after[1:])
}

// split cuts places, which are in order, before the place.
func split(places []int, place int) (before, from []int) {
	for n, p := range places {
		if p >= place {
			return places[:n:n], places[n:]
		}
	}
	return places, nil
}

// unblocked leaves out, and defers, the messages whose key has a failed one.
func (b *batch[TTx]) unblocked(places []int) []int {
	if len(b.blocked) == 0 {
		return places
	}
	var left []int
	for _, n := range places {
		if key, ordered := keyOf(b.messages[n]); ordered && b.blocked[key] {
			b.outcomes[n] = Outcome{Result: Deferred}
			continue
		}
		left = append(left, n)
	}
	return left
}

// failAll fails the first message of each key, and defers the later ones.
func (b *batch[TTx]) failAll(places []int, err error) {
	ids := make([]ledger.Identity, 0, len(places))
	for _, n := range places {
		if key, ordered := keyOf(b.messages[n]); ordered && b.blocked[key] {
			b.outcomes[n] = Outcome{Result: Deferred}
			continue
		}
		b.fail(n, err)
		ids = append(ids, b.ids[n])
	}
	if !IsUnavailable(err) {
		b.inbox.ledger.Ended(context.Background(), ids...)
	}
}

// deferAll defers the messages, and with them all later ones of their keys.
func (b *batch[TTx]) deferAll(places []int) {
	for _, n := range places {
		b.outcomes[n] = Outcome{Result: Deferred}
		if key, ordered := keyOf(b.messages[n]); ordered {
			b.blocked[key] = true
		}
	}
}

// attempt is one transaction of a batch.
type attempt[TTx any] struct {
	batch  *batch[TTx]
	places []int
	// fresh and parked are the places that this transaction decides; the others were seen before.
	fresh, parked []int
}

// keep writes the outcomes down, once they are committed.
func (a *attempt[TTx]) keep() {
	b := a.batch
	for _, n := range a.places {
		b.outcomes[n] = Outcome{Result: Duplicate}
		b.inbox.ledger.Forget(b.ids[n])
	}
	for _, n := range a.fresh {
		b.outcomes[n] = Outcome{Result: Processed}
	}
	for _, n := range a.parked {
		b.outcomes[n] = Outcome{Result: Parked}
	}
}

// run tries it with marks that are all new, and if one is there already, once more with a look at
// each.
func (a *attempt[TTx]) run(ctx context.Context) error {
	i := a.batch.inbox
	if i.expectsNew() {
		marked := false
		err := a.transact(ctx, true, &marked)
		if state, _ := failure.SQLState(err); marked || state != failure.UniqueViolation {
			return err
		}
		i.seenUntil.Store(time.Now().Add(seenAgainFor).UnixNano())
	}
	return a.transact(ctx, false, new(bool))
}

// transact is one transaction. marked tells whether an error is about what came after the marks.
func (a *attempt[TTx]) transact(ctx context.Context, allNew bool, marked *bool) error {
	i, b := a.batch.inbox, a.batch
	a.fresh, a.parked = nil, nil
	ids := make([]ledger.Identity, len(a.places))
	for n, place := range a.places {
		ids[n] = b.ids[place]
	}
	marks := newMarks(ids)
	anyParked := false
	var in int64
	limits := i.ledger.HandlerBounds()
	first := append(statementsOf(i, marks, allNew), inboxdriver.Statement{
		SQL: i.ledger.SQL.AnyParked, Args: []any{i.cfg.Consumer, limits.Idle, limits.Statement},
		Each: func(row inboxdriver.Row) error { return row.Scan(&anyParked, new(string), new(string), &in) },
	})
	return i.ledger.DoHandling(ctx, &in, func(tx inboxdriver.Tx, native TTx) (bool, error) {
		*marked = true
		parked := map[orderKey]int64{}
		if anyParked {
			if err := a.parkedKeys(ctx, tx, parked); err != nil {
				return false, err
			}
		}
		if err := a.sort(ctx, tx, ids, marks, parked); err != nil {
			return false, err
		}
		cleared := i.ledger.WasStarted(ids...)
		if err := i.ledger.ClearStarted(ctx, tx, ids...); err != nil {
			return false, err
		}
		if len(a.fresh) == 0 {
			return cleared || len(a.parked) > 0, nil
		}
		return true, i.ledger.Call(ctx, tx, func(ctx context.Context) error { return b.handler(ctx, native, a.messages()) })
	}, first...)
}

// messages are the fresh ones. The handler may keep the slice.
func (a *attempt[TTx]) messages() []Message {
	fresh := make([]Message, len(a.fresh))
	for n, place := range a.fresh {
		fresh[n] = a.batch.messages[place]
	}
	return fresh
}

// sort finds out which messages are fresh, and parks those whose key is parked.
func (a *attempt[TTx]) sort(
	ctx context.Context, tx inboxdriver.Tx, ids []ledger.Identity, marks *marks, parked map[orderKey]int64,
) error {
	i := a.batch.inbox
	var behind []inboxdriver.Statement
	for n, place := range a.places {
		if !marks.take(ids[n]) {
			continue
		}
		if len(parked) > 0 {
			m := a.batch.messages[place]
			key, ordered := keyOf(m)
			if keyID, waits := parked[key]; ordered && waits {
				a.parked = append(a.parked, place)
				behind = append(behind, i.parkStatement(keyID, m, CauseBehind, 0, nil))
				continue
			}
		}
		a.fresh = append(a.fresh, place)
	}
	if behind == nil {
		return nil
	}
	if err := tx.Send(ctx, behind...); err != nil {
		return fmt.Errorf("park behind their keys: %w", failure.OfStatement(ctx, err))
	}
	return nil
}

func (a *attempt[TTx]) parkedKeys(ctx context.Context, tx inboxdriver.Tx, parked map[orderKey]int64) error {
	topics, keys := a.keys()
	if len(topics) == 0 {
		return nil
	}
	err := tx.Send(ctx, inboxdriver.Statement{
		SQL:  a.batch.inbox.ledger.SQL.ParkedKeys,
		Args: []any{a.batch.inbox.cfg.Consumer, tables.TextArray(topics), tables.ByteaArray(keys)},
		Each: func(row inboxdriver.Row) error {
			var id int64
			var topic string
			var key []byte
			if err := row.Scan(&id, &topic, &key); err != nil {
				return err
			}
			parked[orderKey{topic, string(key)}] = id
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("look for parked keys: %w", failure.OfStatement(ctx, err))
	}
	return nil
}

// keys returns the distinct keys of the messages.
func (a *attempt[TTx]) keys() (topics []string, keys [][]byte) {
	distinct := make(map[orderKey]bool, len(a.places))
	for _, place := range a.places {
		m := a.batch.messages[place]
		key, ordered := keyOf(m)
		if !ordered || distinct[key] {
			continue
		}
		distinct[key] = true
		topics, keys = append(topics, m.Topic), append(keys, m.Key)
	}
	return topics, keys
}
