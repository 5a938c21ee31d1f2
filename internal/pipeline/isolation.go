package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/topics"
)

// isolation finds out why a transaction has failed: for a topic that is unavailable, or for a row
// that brokers refuse, which is poison. The next plan uses what it notes. The publisher uses it.
type isolation struct {
	topics             *topics.Registry
	limits             *limits
	planner            *parking.Planner
	transactionTimeout time.Duration
	logger             *slog.Logger
}

// goesOnWithout reports whether a transaction failed for what it can be begun again without: rows
// that are refused, or topics that are unavailable while the checkpoint topic is not.
func goesOnWithout(txn *kafkatx.Txn, checkpoints string) bool {
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

// rejectedOf are the records that brokers have refused. They refuse a batch of one partition whole.
func rejectedOf(txn *kafkatx.Txn) []kafkatx.Failure {
	failures, _ := txn.Outcome()
	return slices.DeleteFunc(failures, func(f kafkatx.Failure) bool { return !topics.IsRecordFault(f.Err) })
}

// noteBlocked records which topics may not be written to.
func (s *isolation) noteBlocked(blocked *blockedError) {
	for topic, cause := range blocked.topics {
		s.topics.Forget(topic)
		s.topics.SetUnavailable(topic, cause)
	}
}

// noteUnavailable records which topics a batch has failed for.
func (s *isolation) noteUnavailable(b *pending) {
	defer s.topics.LogSuspended()
	s.topics.Unavailable.Spend(time.Since(b.txn.Begun))
	failures, _ := b.txn.Outcome()
	for _, f := range failures {
		topic := f.Record.Topic
		if _, known := s.topics.Known(topic); known { // noted once a batch
			s.topics.Forget(topic)
			s.planner.StopTrying(topic)
			s.topics.SetUnavailable(topic, fmt.Errorf("produce to topic %s: %w", topic, f.Err))
		}
	}
}

// isolate finds out which of the rejected records can never be sent, on the producer of the batch,
// whose transaction is over. If it is none of them, the page is sent in smaller pieces. Each call
// makes the next attempt another one. It returns an error if only new producers can go on.
func (s *isolation) isolate(ctx context.Context, b *pending, rejected []kafkatx.Failure) error {
	if len(rejected) == 0 {
		return nil
	}
	// The largest first: of records that are too large none behind the first good one is bad.
	slices.SortStableFunc(rejected, func(a, c kafkatx.Failure) int {
		return cmp.Compare(outboxread.RecordBytes(c.Record), outboxread.RecordBytes(a.Record))
	})
	topic, size := rejected[0].Record.Topic, tooLarge(rejected[0].Err)
	// One topic and fault at a time: the limit of one topic says nothing about another. What is left
	// is refused again.
	rejected = slices.DeleteFunc(rejected, func(f kafkatx.Failure) bool {
		return f.Record.Topic != topic || tooLarge(f.Err) != size
	})
	if size {
		if smaller, err := s.limitChanged(ctx, b.page, rejected[0].Record); err != nil || smaller {
			return err
		}
	}
	if len(rejected) == 1 { // it was alone in its batch
		return s.markPoison(b.page, rejected[0])
	}
	refused, err := s.sendAlone(ctx, b, rejected, size)
	if err != nil || refused > 0 {
		return err
	}
	bytes := 0
	for _, f := range rejected {
		bytes += outboxread.RecordBytes(f.Record)
	}
	together := s.planner.SendSmaller(topic, bytes)
	s.logger.Warn("a topic refuses records together that it takes one by one: the page is published in smaller pieces",
		"topic", topic, "records", len(rejected), "batch_bytes", together)
	return nil
}

// limitChanged looks whether the limit of the topic that refused a record is another by now. A
// smaller one applies from now on.
func (s *isolation) limitChanged(
	ctx context.Context, page *outboxread.Page, refused *kgo.Record,
) (smaller bool, err error) {
	if err := s.limits.refresh(ctx, refused.Topic); err != nil {
		return false, err
	}
	for i := range page.Records {
		if &page.Records[i] == refused {
			if err := s.limits.renew(page, i); err != nil {
				return false, err
			}
		}
	}
	return s.planner.SendAtMost(refused.Topic, s.topics.Limit(refused.Topic)), nil
}

func tooLarge(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// markPoison remembers that a record of the page can never be sent.
func (s *isolation) markPoison(page *outboxread.Page, f kafkatx.Failure) error {
	for i := range page.Records {
		if &page.Records[i] == f.Record {
			s.planner.MarkPoison(page.Key(i), f.Err)
			return nil
		}
	}
	return fmt.Errorf("produce: a record that is no row was refused: %w", f.Err)
}

// sendAlone sends each record alone, in transactions that are aborted, marks those that are refused
// as poison, and counts them. It may stop at the first good one. If it fails, what it has found out
// stays known.
func (s *isolation) sendAlone(
	ctx context.Context, b *pending, rejected []kafkatx.Failure, untilGood bool,
) (refused int, err error) {
	var txn *kafkatx.Txn
	for _, candidate := range rejected {
		if txn != nil && time.Since(txn.Begun) > s.transactionTimeout/2 { // brokers would abort it
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
		alone := *candidate.Record
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
		if err := s.markPoison(b.page, kafkatx.Failure{Record: candidate.Record, Err: failed}); err != nil {
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
