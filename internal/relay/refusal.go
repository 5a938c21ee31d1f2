package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// errDrained ends a batch that was waiting for a topic when the session was told to drain.
var errDrained = errors.New("the lane was handed on while a batch waited for a topic")

// publish produces a batch until the brokers have acknowledged it whole. What they refuse for good is taken out of it, and
// what they refuse for now is waited for: the transaction is aborted and the batch begun anew, with a new plan. sieve makes
// it.
func (s *session) publish(ctx context.Context, b *batch, sieve func() *plan) error {
	for {
		err := s.fill(ctx, b)
		if err == nil {
			s.topics.Unavailable.Written(b.page.Records, b.plan.Load().drop)
			return nil
		}
		if blocked := (*blockedError)(nil); errors.As(err, &blocked) {
			for topic, cause := range blocked.topics {
				s.topics.Forget(topic)
				s.topics.SetUnavailable(topic, cause)
			}
		} else if ctx.Err() != nil || !b.txn.refusedOrAway(s.log.Topic) {
			return err
		}
		suspects := b.txn.suspects()
		if len(suspects) == 0 {
			s.noteAway(b)
		}
		if err := b.txn.abort(s.cfg.TransactionTimeout, s.ring.close); err != nil {
			return err
		}
		if why := s.convict(ctx, b, suspects); why != nil {
			return errors.Join(err, why)
		}
		ready, err := s.awaitTopics(ctx, b.page)
		if err != nil {
			return err
		}
		if !ready {
			return errDrained
		}
		pl := sieve()
		if pl.halted != nil && pl.empty() {
			return pl.halted
		}
		b.plan.Store(pl)
		if b.txn, err = s.beginTransaction(ctx); err != nil {
			return err
		}
	}
}

// refusedOrAway reports whether the transaction failed for what it can be begun anew without: rows that are refused, or
// topics that are away while the checkpoint topic is not.
func (t *transaction) refusedOrAway(checkpoints string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.acked.Load() != int64(t.produced) {
		return false // some of its records may still be under way
	}
	for _, f := range t.failures {
		if topics.IsRecordFault(f.err) {
			return true
		}
	}
	for _, f := range t.failures {
		if !topics.IsUnavailable(f.err) || f.record.Topic == checkpoints {
			return false
		}
	}
	return len(t.failures) > 0
}

// suspects are the records that brokers have refused. They refuse a batch of one partition whole.
func (t *transaction) suspects() []produceFailure {
	t.mu.Lock()
	defer t.mu.Unlock()
	var suspects []produceFailure
	for _, f := range t.failures {
		if topics.IsRecordFault(f.err) {
			suspects = append(suspects, f)
		}
	}
	return suspects
}

// noteAway records which topics a batch has failed for.
func (s *session) noteAway(b *batch) {
	defer s.topics.LogSuspended()
	s.topics.Unavailable.Spend(time.Since(b.txn.begun))
	for _, f := range b.txn.failures {
		topic := f.record.Topic
		if _, known := s.topics.Known(topic); known { // noted once a batch
			s.topics.Forget(topic)
			delete(s.parking.trying, topic)
			s.topics.SetUnavailable(topic, fmt.Errorf("produce to topic %s: %w", topic, f.err))
		}
	}
}

// convict finds out which of the suspects can never be sent, on the producer of the batch, whose transaction is over. If it is
// none of them, the page is sent in smaller pieces. Each call makes the next attempt another one. It returns an error if only a
// new session can go on.
func (s *session) convict(ctx context.Context, b *batch, suspects []produceFailure) error {
	if len(suspects) == 0 {
		return nil
	}
	// The largest first: of records that are too large none behind the first good one is bad.
	slices.SortStableFunc(suspects, func(a, c produceFailure) int {
		return cmp.Compare(outboxread.RecordBytes(c.record), outboxread.RecordBytes(a.record))
	})
	topic, size := suspects[0].record.Topic, tooLarge(suspects[0].err)
	// One topic and fault at a time: the limit of one topic says nothing about another. What is left is refused again.
	suspects = slices.DeleteFunc(suspects, func(f produceFailure) bool { return f.record.Topic != topic || tooLarge(f.err) != size })
	if size {
		if smaller, err := s.limitChanged(ctx, b.page, suspects[0].record); err != nil || smaller {
			return err
		}
	}
	if len(suspects) == 1 { // it was alone in its batch
		return s.condemn(b, suspects[0])
	}
	refused, err := s.probe(ctx, b, suspects, size)
	if err != nil || refused > 0 {
		return err
	}
	bytes := 0
	for _, f := range suspects {
		bytes += outboxread.RecordBytes(f.record)
	}
	s.parking.pieces.halve(topic, bytes)
	s.lane.log.Warn("a topic refuses records together that it takes one by one: the page is published in smaller pieces",
		"topic", topic, "records", len(suspects), "batch_bytes", s.parking.pieces.bound(topic))
	return nil
}

// limitChanged looks whether the limit of the topic that refused a record is another by now. A smaller one applies from now on.
func (s *session) limitChanged(ctx context.Context, p *outboxread.Page, refused *kgo.Record) (smaller bool, err error) {
	if err := s.topics.Refresh(ctx, refused.Topic); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return false, err
	}
	for i := range p.Records {
		if &p.Records[i] == refused {
			if err := s.renew(p, i); err != nil {
				return false, err
			}
		}
	}
	return s.parking.pieces.atMost(refused.Topic, s.topics.Limit(refused.Topic)), nil
}

// renew returns an error that begins a new session if the producers go by a limit that has been raised since, and the record
// at a place needs the new one: they asked for it once and for all. It does so once for a row, so that brokers that change their
// minds hold up nobody.
func (s *session) renew(p *outboxread.Page, i int) error {
	topic, id := p.Records[i].Topic, p.IDs[i]
	if s.lane.renewed == id || !s.topics.Outgrown(topic, p.Size(i)) {
		return nil
	}
	s.lane.renewed = id
	return fmt.Errorf("topic %s takes larger records than before, and row id %d needs that: the producers start again", topic, id)
}

func tooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// condemn remembers that a record of the batch can never be sent.
func (s *session) condemn(b *batch, f produceFailure) error {
	for i := range b.page.Records {
		if &b.page.Records[i] == f.record {
			s.parking.condemned[b.page.Key(i)] = f.err
			return nil
		}
	}
	return fmt.Errorf("produce: a record that is no row was refused: %w", f.err)
}

// probe sends each record alone, in transactions that are aborted, condemns those that are refused, and counts them. It may
// stop at the first good one. What it has found out stays known where it fails.
func (s *session) probe(ctx context.Context, b *batch, suspects []produceFailure, untilGood bool) (refused int, err error) {
	var txn *transaction
	for _, suspect := range suspects {
		if txn != nil && time.Since(txn.begun) > s.cfg.TransactionTimeout/2 { // brokers would abort it
			if err := txn.abort(s.cfg.TransactionTimeout, s.ring.close); err != nil {
				return refused, err
			}
			txn = nil
		}
		if txn == nil {
			if txn, err = b.txn.producer.begin(ctx); err != nil {
				return refused, err
			}
		}
		alone := *suspect.record
		record, given := txn.deadline(ctx)
		txn.produce(record, &alone)
		failed := txn.flush(ctx)
		given()
		if failed == nil {
			if untilGood {
				break
			}
			continue
		}
		if !topics.IsRecordFault(failed) {
			return refused, failed
		}
		refused++
		if err := s.condemn(b, produceFailure{suspect.record, failed}); err != nil {
			return refused, err
		}
		if err := txn.abort(s.cfg.TransactionTimeout, s.ring.close); err != nil {
			return refused, err
		}
		txn = nil
	}
	if txn == nil {
		return refused, nil
	}
	return refused, txn.abort(s.cfg.TransactionTimeout, s.ring.close)
}

// abort ends the transaction without a trace. Whatever it held has been decided by then: nothing is buffered any more. An
// error means that the producer cannot be used again; giveUp is called where that takes too long.
func (t *transaction) abort(timeout time.Duration, giveUp func()) error {
	limit := time.AfterFunc(timeout+time.Second, giveUp)
	defer limit.Stop()
	if err := t.producer.client.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	t.producer.markers.has(t, false)
	return nil
}
