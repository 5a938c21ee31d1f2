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

	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/topics"
)

// errDrained ends a batch that was waiting for a topic when the session was told to drain.
var errDrained = errors.New("the lane was handed on while a batch waited for a topic")

// publish produces a batch until the brokers have acknowledged it whole. What they refuse for good
// is taken out of it, and what they refuse for now is waited for: the transaction is aborted and
// the batch begun again, with a new plan. sieve makes it.
func (s *session) publish(ctx context.Context, b *batch, sieve func() *parking.Plan) error {
	for {
		err := s.fill(ctx, b)
		if err == nil {
			s.topics.Unavailable.Written(b.page.Records, b.plan.Load().Drop)
			return nil
		}
		if blocked := (*blockedError)(nil); errors.As(err, &blocked) {
			for topic, cause := range blocked.topics {
				s.topics.Forget(topic)
				s.topics.SetUnavailable(topic, cause)
			}
		} else if ctx.Err() != nil || !refusedOrAway(b.txn, s.log.Topic) {
			return err
		}
		suspects := suspectsOf(b.txn)
		if len(suspects) == 0 {
			s.noteAway(b)
		}
		if err := b.txn.Abort(); err != nil {
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
		if pl.Halted != nil && pl.Empty() {
			return pl.Halted
		}
		b.plan.Store(pl)
		if b.txn, err = s.beginTransaction(ctx); err != nil {
			return err
		}
	}
}

// refusedOrAway reports whether a transaction failed for what it can be begun again without: rows
// that are refused, or topics that are unavailable while the checkpoint topic is not.
func refusedOrAway(txn *kafkatx.Txn, checkpoints string) bool {
	failures, all := txn.Outcome()
	if !all {
		return false // some of its records may still be under way
	}
	for _, f := range failures {
		if topics.IsRecordFault(f.Err) {
			return true
		}
	}
	for _, f := range failures {
		if !topics.IsUnavailable(f.Err) || f.Record.Topic == checkpoints {
			return false
		}
	}
	return len(failures) > 0
}

// suspectsOf are the records that brokers have refused. They refuse a batch of one partition whole.
func suspectsOf(txn *kafkatx.Txn) []kafkatx.Failure {
	failures, _ := txn.Outcome()
	return slices.DeleteFunc(failures, func(f kafkatx.Failure) bool { return !topics.IsRecordFault(f.Err) })
}

// noteAway records which topics a batch has failed for.
func (s *session) noteAway(b *batch) {
	defer s.topics.LogSuspended()
	s.topics.Unavailable.Spend(time.Since(b.txn.Begun))
	failures, _ := b.txn.Outcome()
	for _, f := range failures {
		topic := f.Record.Topic
		if _, known := s.topics.Known(topic); known { // noted once a batch
			s.topics.Forget(topic)
			delete(s.parking.Trying, topic)
			s.topics.SetUnavailable(topic, fmt.Errorf("produce to topic %s: %w", topic, f.Err))
		}
	}
}

// convict finds out which of the suspects can never be sent, on the producer of the batch, whose
// transaction is over. If it is none of them, the page is sent in smaller pieces. Each call makes
// the next attempt another one. It returns an error if only a new session can go on.
func (s *session) convict(ctx context.Context, b *batch, suspects []kafkatx.Failure) error {
	if len(suspects) == 0 {
		return nil
	}
	// The largest first: of records that are too large none behind the first good one is bad.
	slices.SortStableFunc(suspects, func(a, c kafkatx.Failure) int {
		return cmp.Compare(outboxread.RecordBytes(c.Record), outboxread.RecordBytes(a.Record))
	})
	topic, size := suspects[0].Record.Topic, tooLarge(suspects[0].Err)
	// One topic and fault at a time: the limit of one topic says nothing about another. What is left
	// is refused again.
	suspects = slices.DeleteFunc(suspects, func(f kafkatx.Failure) bool { return f.Record.Topic != topic || tooLarge(f.Err) != size })
	if size {
		if smaller, err := s.limitChanged(ctx, b.page, suspects[0].Record); err != nil || smaller {
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
		bytes += outboxread.RecordBytes(f.Record)
	}
	s.parking.Pieces.Halve(topic, bytes)
	s.lane.log.Warn("a topic refuses records together that it takes one by one: the page is published in smaller pieces",
		"topic", topic, "records", len(suspects), "batch_bytes", s.parking.Pieces.Bound(topic))
	return nil
}

// limitChanged looks whether the limit of the topic that refused a record is another by now. A
// smaller one applies from now on.
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
	return s.parking.Pieces.AtMost(refused.Topic, s.topics.Limit(refused.Topic)), nil
}

// renew returns an error that begins a new session if the producers go by a limit that has been
// raised since, and the record at a place needs the new one: they asked for it once and for all. It
// does so once for a row, so that brokers that change their minds hold up nobody.
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
func (s *session) condemn(b *batch, f kafkatx.Failure) error {
	for i := range b.page.Records {
		if &b.page.Records[i] == f.Record {
			s.parking.Poison[b.page.Key(i)] = f.Err
			return nil
		}
	}
	return fmt.Errorf("produce: a record that is no row was refused: %w", f.Err)
}

// probe sends each record alone, in transactions that are aborted, condemns those that are refused,
// and counts them. It may stop at the first good one. What it has found out stays known where it
// fails.
func (s *session) probe(ctx context.Context, b *batch, suspects []kafkatx.Failure, untilGood bool) (refused int, err error) {
	var txn *kafkatx.Txn
	for _, suspect := range suspects {
		if txn != nil && time.Since(txn.Begun) > s.cfg.TransactionTimeout/2 { // brokers would abort it
			if err := txn.Abort(); err != nil {
				return refused, err
			}
			txn = nil
		}
		if txn == nil {
			if txn, err = b.txn.Producer.Begin(ctx); err != nil {
				return refused, err
			}
		}
		alone := *suspect.Record
		record, given := txn.Deadline(ctx)
		txn.Produce(record, &alone)
		failed := txn.Flush(ctx)
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
		if err := s.condemn(b, kafkatx.Failure{Record: suspect.Record, Err: failed}); err != nil {
			return refused, err
		}
		if err := txn.Abort(); err != nil {
			return refused, err
		}
		txn = nil
	}
	if txn == nil {
		return refused, nil
	}
	return refused, txn.Abort()
}
