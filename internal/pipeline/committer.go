package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/kafkatx"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/retention"
	"github.com/outbox-relay/relay/internal/timeline"
)

// committer ends the transactions in their order. It takes a batch only after the one before it has
// been committed. Meanwhile it keeps the session of the lane's row alive, and says in the row what
// the lane does.
type committer struct {
	lane               string
	row                *lanestore.Row
	parked             parking.Rows
	producers          *kafkatx.Pool
	cleaner            *retention.Cleaner // nil if nothing is ever removed
	commits            *commits
	pace               *pace
	workTimeout        time.Duration // see Options
	transactionTimeout time.Duration
	hold               func(context.Context) error
	status             func() (state, reason string)
	published          func(position.Position)
	committed          func(Batch)
	clock              *outboxread.Clock
	creations          *creations
	step               func(Step)
	trace              func(timeline.Batch) // nil for none

	state, reason string       // what the row says
	ping          *time.Ticker // while it runs
}

func (p *Pipeline) newCommitter(commits *commits, cleaner *retention.Cleaner) *committer {
	return &committer{
		lane: p.o.Name, row: p.d.Row, parked: parking.NewRows(p.o.Name, p.o.Table), producers: p.d.Producers,
		cleaner: cleaner, commits: commits, pace: p.memory.pace,
		workTimeout: p.o.WorkTimeout, transactionTimeout: p.o.TransactionTimeout,
		hold: p.lane.Hold, status: p.lane.Status, published: p.lane.Published, committed: p.lane.Committed,
		clock: p.d.Reader.Clock(), creations: p.creations, step: p.o.Step, trace: p.o.Trace,
		state: lanestore.Running,
	}
}

func (c *committer) run(ctx context.Context, batches <-chan *pending) error {
	c.ping = time.NewTicker(lanestore.PingInterval)
	defer c.ping.Stop()
	for {
		b, ok, err := await(ctx, c, batches)
		if err == nil && !ok {
			err = c.row.Confirm(ctx)
		}
		if err != nil || !ok {
			return err
		}
		if err := c.finish(ctx, b); err != nil {
			return err
		}
	}
}

// await receives from a channel and keeps the session of the lane's row alive meanwhile.
func await[T any](ctx context.Context, c *committer, from <-chan T) (value T, ok bool, err error) {
	for {
		select {
		case value, ok = <-from:
			return value, ok, nil
		case <-c.ping.C:
			if err := c.keepAlive(ctx); err != nil {
				return value, false, err
			}
		case <-ctx.Done():
			return value, false, ctx.Err()
		}
	}
}

func (c *committer) keepAlive(ctx context.Context) error {
	if err := c.hold(ctx); err != nil {
		return fmt.Errorf("hold the lock of the lane: %w", err)
	}
	if err := c.row.Confirm(ctx); err != nil {
		return err
	}
	return c.sayState(ctx)
}

// sayState writes the lane's state to its row if it has changed: this goroutine owns the row.
func (c *committer) sayState(ctx context.Context) error {
	state, reason := c.status()
	if state == c.state && reason == c.reason {
		return nil
	}
	if err := c.row.Say(ctx, state, reason); err != nil {
		return err
	}
	c.state, c.reason = state, reason
	return nil
}

// finish decides one batch: intent, checks, commit.
func (c *committer) finish(ctx context.Context, b *pending) error {
	c.step(BeforeIntent)
	intended := b.plan.Load()
	if err := c.paced(intended, func() error { return c.intent(ctx, b.seq, intended, false) }); err != nil {
		return err
	}
	b.times.Intended = time.Now()
	c.step(AfterIntent)
	failed, _, err := await(ctx, c, b.flushed)
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	plan := b.plan.Load()
	if plan != intended {
		if err := c.paced(plan, func() error { return c.intent(ctx, b.seq, plan, true) }); err != nil {
			return err
		}
	}
	b.times.Ending = time.Now()
	c.step(BeforeEnd)
	limit := time.AfterFunc(c.transactionTimeout+time.Second, c.producers.Close)
	defer limit.Stop()
	if err := c.end(ctx, b.txn); err != nil {
		return err
	}
	b.times.Ended = time.Now()
	c.step(AfterEnd)
	if plan.Works() {
		if err := c.paced(plan, func() error { return c.row.Settle(ctx, b.seq) }); err != nil {
			return err
		}
	}
	c.cleaner.Published(plan.After)
	c.row.Committed(b.seq)
	c.published(plan.After)
	c.committed(Batch{
		Lane: c.lane, Seq: b.seq, Rows: plan.Sent, Bytes: plan.Bytes, Oldest: b.oldest, Took: time.Since(b.times.Begun),
		Parked: len(plan.Parks), Skipped: len(plan.Skips), Released: len(plan.Releases),
		Delays: delaysOf(b.created, c.clock.Now()),
	})
	c.creations.put(b.created)
	c.commits.add(b.seq)
	if c.trace != nil {
		c.trace(timeline.Batch{Lane: c.lane, Seq: b.seq, IDs: b.ids, Times: b.times})
	}
	return nil
}

// end commits the transaction.
func (c *committer) end(ctx context.Context, txn *kafkatx.Txn) error {
	ended := make(chan error, 1)
	go func() { ended <- txn.Commit(ctx) }()
	failed, _, err := await(ctx, c, ended)
	if err != nil {
		// The outcome is unknown, and nothing may go on before the commit has returned.
		c.producers.Close()
		return errors.Join(err, <-ended)
	}
	return failed
}

// intent records that a batch is about to be committed, and what it parks and releases.
func (c *committer) intent(ctx context.Context, seq int64, plan *parking.Plan, again bool) error {
	var work func(context.Context, pgx.Tx) error
	if plan.Works() {
		work = func(ctx context.Context, tx pgx.Tx) error {
			return c.parked.Write(ctx, tx, c.row.Table().OID, seq, plan)
		}
	}
	return c.row.Intent(ctx, lanestore.Intent{Seq: seq, After: plan.After, Again: again}, work)
}

// paced runs a write of the batch on the lane's row, and learns from how long it took.
func (c *committer) paced(plan *parking.Plan, write func() error) error {
	began := time.Now()
	err := write()
	c.pace.learn(plan.Changes(), time.Since(began), c.workTimeout, err)
	return err
}
