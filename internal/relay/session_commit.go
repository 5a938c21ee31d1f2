package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/parking"
)

// commit ends the transactions in their order. It takes a batch only after the one before it has
// been committed.
func (s *session) commit(ctx context.Context, batches <-chan *batch) error {
	ping := time.NewTicker(lanestore.PingInterval)
	defer ping.Stop()
	for {
		b, ok, err := await(ctx, s, ping, batches)
		if err == nil && !ok {
			err = s.row.Confirm(ctx)
		}
		if err != nil || !ok {
			return err
		}
		if err := s.finish(ctx, ping, b); err != nil {
			return err
		}
	}
}

// await receives from a channel and keeps the lane's session alive meanwhile.
func await[T any](ctx context.Context, s *session, ping *time.Ticker, from <-chan T) (value T, ok bool, err error) {
	for {
		select {
		case value, ok = <-from:
			return value, ok, nil
		case <-ping.C:
			if err := s.lane.hold(ctx, s.row); err != nil {
				return value, false, fmt.Errorf("hold the lock of the lane: %w", err)
			}
			if err := s.row.Confirm(ctx); err != nil {
				return value, false, err
			}
			if err := s.sayState(ctx); err != nil {
				return value, false, err
			}
		case <-ctx.Done():
			return value, false, ctx.Err()
		}
	}
}

// finish decides one batch: intent, checks, commit.
func (s *session) finish(ctx context.Context, ping *time.Ticker, b *batch) error {
	s.cfg.Step(BeforeIntent)
	intended := b.plan.Load()
	err := s.paced(intended, func() error { return s.intent(ctx, b.seq, intended, false) })
	if err != nil {
		return err
	}
	s.cfg.Step(AfterIntent)
	failed, _, err := await(ctx, s, ping, b.flushed)
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	pl := b.plan.Load()
	if pl != intended {
		if err := s.paced(pl, func() error { return s.intent(ctx, b.seq, pl, true) }); err != nil {
			return err
		}
	}
	s.cfg.Step(BeforeEnd)
	ended := make(chan error, 1)
	go func() { ended <- b.txn.Commit(ctx) }()
	limit := time.AfterFunc(s.cfg.TransactionTimeout+time.Second, s.producers.Close)
	defer limit.Stop()
	failed, _, err = await(ctx, s, ping, ended)
	if err != nil {
		// The outcome is unknown, and nobody may go on before the commit has returned.
		s.producers.Close()
		return errors.Join(err, <-ended)
	}
	if failed != nil {
		return failed
	}
	s.cfg.Step(AfterEnd)
	if pl.Works() {
		if err := s.paced(pl, func() error { return s.row.Settle(ctx, b.seq) }); err != nil {
			return err
		}
	}
	s.cleaner.Published(pl.After)
	s.row.Committed(b.seq)
	s.lane.committed(Batch{
		Lane: s.lane.Name, Seq: b.seq, Rows: pl.Sent, Bytes: pl.Bytes, Oldest: b.oldest, Took: time.Since(b.begun),
		Parked: len(pl.Parks), Skipped: len(pl.Skips), Released: len(pl.Releases),
	})
	s.committed.Store(b.seq)
	select {
	case s.settled <- struct{}{}:
	default:
	}
	return nil
}

// intent records that a batch is about to be committed, and what it parks and releases.
func (s *session) intent(ctx context.Context, seq int64, pl *parking.Plan, again bool) error {
	var work func(context.Context, pgx.Tx) error
	if pl.Works() {
		work = func(ctx context.Context, tx pgx.Tx) error {
			return parking.NewRows(s.lane.Name, s.lane.Table).Write(ctx, tx, s.row.Table().OID, seq, pl)
		}
	}
	return s.row.Intent(ctx, lanestore.Intent{Seq: seq, After: pl.After, Again: again}, work)
}

// sayState writes the lane's state to its row when it has changed: the commit goroutine owns the
// row.
func (s *session) sayState(ctx context.Context) error {
	status := s.lane.status()
	if status.State == s.lane.said.State && status.Reason == s.lane.said.Reason {
		return nil
	}
	if err := s.row.Say(ctx, string(status.State), status.Reason); err != nil {
		return err
	}
	s.lane.said = status
	return nil
}
