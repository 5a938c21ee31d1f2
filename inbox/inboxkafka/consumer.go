package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/offsets"
	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/internal/transact"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// ErrDrain is what Run returns if handlers were still at work when DrainTimeout was over. What they
// did not commit is handled again by the next owner of its partition.
var ErrDrain = errors.New("inboxkafka: messages were still in flight at the end of DrainTimeout; " +
	"they are handled again")

// Consumer is one process of a consumer group that handles each message once. New makes it, and Run
// is called once.
type Consumer struct {
	cfg   Config
	store store
	log   *slog.Logger
	hooks hooks
	sched *schedule.Scheduler

	client  *kgo.Client
	commits *offsets.Committer

	// handling ends when no handler may go on; end ends it.
	handling context.Context
	end      context.CancelFunc

	balancing sync.Mutex // while fetching is paused and resumed
	largest   int64      // bytes of the largest record lately; of the goroutine that fetches
	ran       atomic.Bool

	failures, retries, retriesFailed atomic.Int64 // see Stats
	commitsDone, commitsFailed       atomic.Int64
	pauses                           atomic.Int64
	parked                           atomic.Pointer[parkedKeys] // as they were counted last
}

// New returns a consumer that handles the messages of its topics with the handler, under the
// consumer name of the inbox. It connects to nothing. Faults of the configuration are reported all
// at once.
func New[TTx any](in *inbox.Inbox[TTx], handler Handler[TTx], config *Config) (*Consumer, error) {
	if in == nil {
		return nil, errors.Join(errors.New("inboxkafka: the inbox is nil"), faults(handler.mode(), config))
	}
	loop := inboxloop.New(in)
	if loop.Connections() == 1 {
		return nil, errors.Join(errors.New("inboxkafka: the pool of the inbox has one connection: while a handler holds "+
			"it no offset is committed; give it at least 2, and for full speed one more than Workers (pool_max_conns)"),
			faults(handler.mode(), config))
	}
	return newConsumer(handling[TTx]{both[TTx]{in, loop}, handler}, in.Consumer(), config)
}

// faults are those of a configuration.
func faults(mode mode, config *Config) error {
	if config == nil {
		config = &Config{}
	}
	return config.defaultsFor(mode).validate(mode)
}

func newConsumer(in store, name string, config *Config) (*Consumer, error) {
	if err := faults(in.mode(), config); err != nil {
		return nil, err
	}
	cfg := config.defaultsFor(in.mode())
	setDefault(&cfg.Group, name)
	c := &Consumer{
		cfg: cfg, store: in, hooks: hooks{cfg.Hooks, context.Background()}, log: cfg.Logger.With("group", cfg.Group),
		largest: cfg.MaxBytes / 8,
	}
	c.handling, c.end = context.WithCancel(context.Background())
	c.sched = schedule.New(c.schedule())
	c.commits = &offsets.Committer{
		Sched: c.sched, Interval: cfg.CommitInterval, Log: c.log, Flush: in.Flush, Told: c.committed,
	}
	if err := c.checkOptions(); err != nil {
		return nil, err
	}
	return c, nil
}

// committed is told of each offset that was committed, or was not.
func (c *Consumer) committed(at schedule.TopicPartition, offset int64, err error) {
	if err != nil {
		c.commitsFailed.Add(1)
	} else {
		c.commitsDone.Add(1)
	}
	c.hooks.committed(at, offset, err)
}

// schedule are the options of the scheduler.
func (c *Consumer) schedule() schedule.Options {
	return schedule.Options{
		MaxRecords: c.cfg.MaxRecords, MaxBytes: c.cfg.MaxBytes, FromStart: atStart(c.cfg.StartOffset),
		Handling: func(in inboxloop.Incarnation) context.Context { return c.store.Bind(c.handling, in) },
	}
}

// Run consumes until ctx ends: then nothing more begins, what is in flight has DrainTimeout to end,
// and what is done is committed; a few seconds later at most Run returns. It returns nil, or
// ErrDrain if something was cut off, or why it could not begin: tables that are missing, a
// Retention that is too short.
func (c *Consumer) Run(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.end()
	c.hooks.ctx = context.WithoutCancel(ctx)
	admin, err := c.adminClient()
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := c.checkStore(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	keeper := c.keeper(admin)
	if err := keeper.Settle(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	// The client outlives ctx: it commits and leaves the group once all is drained.
	clientCtx, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	c.client, err = kgo.NewClient(append(c.options(), kgo.WithContext(clientCtx))...)
	if err != nil {
		return fmt.Errorf("create client: %w", err)
	}
	ends := &offsets.Ends{
		Sched: c.sched, Admin: admin, Topics: c.cfg.Topics, Interval: c.cfg.CommitInterval, Log: c.log,
		Buffered: c.client.BufferedFetchRecords,
		Deleted:  func(at schedule.TopicPartition, from, gone int64) { c.reportDeleted(at.Topic, at.Number, from, gone) },
	}
	background, stop := context.WithCancel(ctx)
	defer stop()
	var beside, workers sync.WaitGroup
	beside.Go(func() { c.fetch(background) })
	beside.Go(func() { c.commits.Run(background, c.client) })
	beside.Go(func() { c.retryLoop(background) })
	beside.Go(func() { c.countParked(background) })
	beside.Go(func() { keeper.Run(background) })
	beside.Go(func() { ends.Run(background) })
	for range c.cfg.Workers {
		workers.Go(c.worker)
	}
	<-ctx.Done()
	return c.shutDown(&beside, &workers, abandon)
}

// checkStore looks for the tables, and takes the incarnation before the first message is handled.
// It waits for a database that is unavailable: a consumer may start before it.
func (c *Consumer) checkStore(ctx context.Context) error {
	for failures := 1; ; failures++ {
		err := c.store.Check(ctx)
		if err == nil {
			var now inboxloop.Incarnation
			if now, err = c.store.Incarnation(ctx); err == nil {
				c.sched.Start(now)
			}
		}
		if err == nil || ctx.Err() != nil {
			return nil
		}
		if !inbox.IsUnavailable(err) {
			return err
		}
		wait := c.backoff(failures)
		c.log.Warn("cannot reach the database; it is tried again", "wait", wait, "error", err)
		if transact.Pause(ctx, wait) != nil {
			return nil
		}
	}
}

// begin allows one Run.
func (c *Consumer) begin() error {
	if c.ran.Swap(true) {
		return errors.New("inboxkafka: Run was called before; make a new Consumer")
	}
	return nil
}

// shutDown ends what runs, in the order that leaves nothing half done: nothing begins, what is in
// flight ends or is cut off, what is done is committed, sessions are closed, the group is told.
//
// A rebalance meanwhile runs its callback as always; it finds partitions closed already, or closes
// them itself. A callback that waits for handlers does so no longer than here, since the end of
// handling ends its wait too.
func (c *Consumer) shutDown(beside, workers *sync.WaitGroup, abandon func()) (err error) {
	c.log.Info("shutting down; waiting for what is in flight", "limit", c.cfg.DrainTimeout)
	c.sched.Drain()
	ended := make(chan struct{})
	go func() {
		workers.Wait()
		beside.Wait()
		close(ended)
	}()
	limit := time.NewTimer(c.cfg.DrainTimeout)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		if n := c.Stats().InFlight; n > 0 {
			err = fmt.Errorf("%w (%d of them)", ErrDrain, n)
			c.log.Warn("handlers are cut off; what they did not commit is handled again", "transactions", n)
		}
	}
	c.end()
	gone := c.closeAll()
	c.drainPartitions(gone, 0)
	c.commits.Commit(c.client, gone)
	c.closeSessions(gone)
	c.forget(gone, false)
	// A join that is under way is waited for by the client, for as long as the group takes: ending
	// its context bounds that. If the group cannot be told, its session timeout tells it.
	goodbye := time.AfterFunc(leaveTimeout, abandon)
	defer goodbye.Stop()
	c.client.CloseAllowingRebalance()
	last := time.NewTimer(abandonTimeout)
	defer last.Stop()
	select {
	case <-ended:
	case <-last.C:
		// The inbox never waits for a handler that does not return; this is only for a store that does.
		err = errors.Join(err, errors.New("inboxkafka: a call of the inbox does not return"))
	}
	return err
}

// leaveTimeout bounds the goodbye to a group that may be out of reach.
const leaveTimeout = 3 * time.Second

// closeAll closes what is still assigned.
func (c *Consumer) closeAll() []*schedule.Partition {
	all := map[string][]int32{}
	for _, at := range c.sched.Assigned() {
		all[at.Topic] = append(all[at.Topic], at.Number)
	}
	return c.close(all, false)
}
