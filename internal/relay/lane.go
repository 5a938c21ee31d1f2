package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/internal/backlog"
	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/takeover"
	"github.com/outbox-relay/relay/internal/topics"
)

// lane runs one outbox table in this process: it waits until it may, takes over, publishes, and
// starts over after any doubt.
type lane struct {
	Lane
	cfg       *Config // the lane's own
	partition int32   // of the checkpoint topic
	owner     string
	assigned  *election.Member
	log       *slog.Logger

	state  *laneState
	yields atomic.Int64 // of this lane as a stand-in, since it was last assigned

	// What is known of topics, transactions and rows beyond the ownership that found it out.
	outages *topics.Unavailable
	open    openTopics
	memory  *pipeline.Memory
}

func newLane(shared *Config, l Lane, owner string, members *election.Member) *lane {
	cfg := shared.of(l)
	cfg.Logger = cfg.Logger.With("lane", l.Name)
	outages := topics.NewUnavailable(cfg.Topics.Timeout)
	return &lane{
		Lane: l, cfg: &cfg, owner: owner, assigned: members, log: cfg.Logger,
		state:   newLaneState(l.Name, cfg.Hooks, outages, cfg.Logger),
		outages: outages, memory: pipeline.NewMemory(cfg.BatchRows),
	}
}

// run serves the lane until ctx ends. Each round holds the lane's lock.
func (l *lane) run(ctx context.Context) {
	pause := l.cfg.RetryMin
	for ctx.Err() == nil {
		batches := l.state.batches.Load()
		err := l.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			l.state.change(Standby)
			continue
		}
		// It has said so, and another process may have the lane meanwhile.
		if fault := (*checkpoint.HaltError)(nil); errors.As(err, &fault) {
			if backoff.Sleep(ctx, backoff.Jitter(checkpoint.HaltedRetry)) != nil {
				return
			}
			continue
		}
		if l.state.batches.Load() > batches { // it had worked: this failure is a new one
			pause = l.cfg.RetryMin
		}
		l.state.failed(Waiting, err)
		l.log.Warn("lane waits", "error", err, "retry_in", pause)
		if backoff.Sleep(ctx, backoff.Jitter(pause)) != nil {
			return
		}
		pause = min(2*pause, l.cfg.RetryMax)
	}
}

// round opens the lane's session on Postgres, waits for the lock, and serves the lane for as long
// as the session lives.
func (l *lane) round(ctx context.Context) error {
	row, err := lanestore.Open(ctx, l.cfg.rowOptions(l.Lane, l.owner))
	if err != nil {
		return ofPostgres(err)
	}
	defer row.Close()
	if l.partition, err = row.Register(ctx, laneNames(l.cfg.Lanes)); err != nil {
		return ofPostgres(err)
	}
	standIn, err := l.awaitLock(ctx, row)
	if err != nil {
		return ofPostgres(err)
	}
	defer l.hasLane(ctx)()
	yield, release := l.yielding(ctx, standIn)
	defer release()
	pause := l.cfg.RetryMin
	for {
		batches := l.state.batches.Load()
		err := l.serve(ctx, row, yield)
		if err == nil || ctx.Err() != nil || errors.Is(err, lanestore.ErrLost) {
			return err
		}
		fault := (*checkpoint.HaltError)(nil)
		if halted := errors.As(err, &fault); !halted && row.Conn().IsClosed() {
			return ofPostgres(err)
		}
		if l.state.batches.Load() > batches {
			pause = l.cfg.RetryMin
		}
		wait := backoff.Jitter(pause)
		if fault != nil {
			l.halted(ctx, row, err)
			if fault.OfSettings() {
				return err
			}
			wait = checkpoint.HaltedRetry
		} else {
			l.waiting(ctx, row, err, wait)
		}
		// The lock is kept while the session lives: a lane that waits or has halted is not handed
		// round.
		if err := l.rest(ctx, row, yield, wait); err != nil {
			return ofPostgres(err)
		}
		select {
		case <-yield:
			return nil
		default:
		}
		pause = min(2*pause, l.cfg.RetryMax)
	}
}

// serve takes the lane over and publishes. It returns nil when the lane was drained for another
// process or for the end of this one.
func (l *lane) serve(ctx context.Context, row *lanestore.Row, yield <-chan struct{}) error {
	began := time.Now()
	if !l.state.is(Halted) {
		l.state.change(TakingOver)
	}
	owned, err := l.takeOver(ctx, row)
	var p *pipeline.Pipeline
	if err == nil {
		defer owned.Close()
		p, err = l.openPipeline(ctx, row, owned)
	}
	l.cfg.Hooks.tookOver(l.Name, time.Since(began), err)
	if err != nil {
		return err
	}
	l.log.Info("lane taken over", "seq", owned.Last.Seq, "owner_epoch", row.Epoch(), "took", time.Since(began))
	l.state.resumed(owned.Last.Seq)
	l.state.published(owned.Last.Position)
	if !l.state.is(Halted) { // a lane that halted for a row runs again once that row is past
		l.state.running()
	}

	// The pipeline outlives ctx by the time it takes to drain.
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	drain := make(chan struct{})
	finished := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		select {
		case <-ctx.Done():
		case <-yield:
		case <-finished:
			return
		}
		close(drain)
		timer := time.NewTimer(l.cfg.DrainTimeout)
		defer timer.Stop()
		select {
		case <-timer.C:
			l.log.Warn("draining took too long; the batches in flight are left to the next owner",
				"timeout", l.cfg.DrainTimeout)
			cancel()
		case <-finished:
		}
	})
	err = p.Run(runCtx, drain)
	close(finished)
	group.Wait()
	if owned.Reader.Conn().IsClosed() {
		err = ofPostgres(err)
	}
	return err
}

// hasLane says that this process has the lane, and counts what is to be published meanwhile, also
// while the lane waits. It returns what ends that.
func (l *lane) hasLane(ctx context.Context) (stop func()) {
	l.state.holds.Store(true)
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		backlog.Watch(ctx, backlog.Options{
			Lane: l.Name, Table: l.Table, Database: l.cfg.sessions(), Position: l.state.position.Load,
			Told:   func(found backlog.Backlog) { l.state.backlog.Store(&found) },
			Locked: l.state.setLocked, Logger: l.log,
		})
	})
	return func() {
		cancel()
		watch.Wait()
		l.state.holds.Store(false)
		l.state.backlog.Store(nil)
		l.state.position.Store(nil)
		l.state.setLocked("")
	}
}

// takeOver makes this process the lane's owner.
func (l *lane) takeOver(ctx context.Context, row *lanestore.Row) (*takeover.Owned, error) {
	leftOpen := l.open.list()
	owned, err := takeover.Take(ctx, row, l.takeoverOptions(leftOpen))
	if err != nil {
		return nil, err
	}
	l.open.forget(leftOpen)
	l.tellSettings(row)
	return owned, nil
}

// settingsDiffer is what it means if replicas have other settings.
const settingsDiffer = "where replicas differ, rows go elsewhere after each failover"

// tellSettings says loudly that the lane goes on with other settings than it was run with before.
func (l *lane) tellSettings(row *lanestore.Row) {
	if differences, by := row.NewSettings(); differences != "" {
		l.log.Warn("the lane goes on with other settings than before; "+settingsDiffer,
			"settings", differences, "before", by, "now", row.Owner())
	}
}

// openPipeline opens the pipeline of a lane that was taken over.
func (l *lane) openPipeline(
	ctx context.Context, row *lanestore.Row, owned *takeover.Owned,
) (*pipeline.Pipeline, error) {
	return pipeline.Open(ctx, pipeline.Deps{
		Row: row, Reader: owned.Reader, Producers: owned.Producers, Topics: owned.Topics, Log: owned.Log,
		Identity: owned.Identity, Last: owned.Last, LastOf: owned.LastOf,
	}, l.pipelineOptions(row), l.calls(row), l.memory)
}

// rest waits and shows meanwhile that this process lives.
func (l *lane) rest(ctx context.Context, row *lanestore.Row, yield <-chan struct{}, wait time.Duration) error {
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	ping := time.NewTicker(lanestore.PingInterval)
	defer ping.Stop()
	for {
		select {
		case <-deadline.C:
			return nil
		case <-yield:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-ping.C:
		}
		if err := l.hold(ctx, row); err != nil {
			return fmt.Errorf("hold the lock of the lane: %w", err)
		}
	}
}

// waiting reports a failure that mends itself.
func (l *lane) waiting(ctx context.Context, row *lanestore.Row, err error, wait time.Duration) {
	l.log.Warn("lane waits", "error", err, "retry_in", wait)
	l.state.failed(Waiting, err)
	l.tell(ctx, row, Waiting, l.state.status().Reason)
}

// halted reports a contradiction, once for each diagnosis.
func (l *lane) halted(ctx context.Context, row *lanestore.Row, err error) {
	if status := l.state.status(); status.State != Halted || status.Reason != err.Error() {
		l.log.Error("lane halted", "error", err)
	}
	l.state.failed(Halted, err)
	l.tell(ctx, row, Halted, err.Error())
}

// tell writes the state to the lane's row, where this process may. It is best effort: the state is
// for people, and the failure that it tells of may be that of Postgres.
func (l *lane) tell(ctx context.Context, row *lanestore.Row, state State, reason string) {
	say := row.Say
	if row.Epoch() == 0 {
		say = row.SayBefore
	}
	if err := say(ctx, string(state), reason); err != nil {
		l.log.Debug("state of the lane not recorded", "error", err)
	}
}

// openTopics are those on which brokers have left a transaction open. The takeover that follows
// looks at them.
type openTopics struct {
	mu    sync.Mutex
	found map[string]bool
}

func (o *openTopics) add(topic string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found == nil {
		o.found = make(map[string]bool)
	}
	o.found[topic] = true
}

func (o *openTopics) list() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.found))
}

// forget is told the topics at which a takeover has looked.
func (o *openTopics) forget(topics []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, topic := range topics {
		delete(o.found, topic)
	}
}
