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

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/brief"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pipeline"
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

	batches atomic.Int64 // committed by this process
	parked  atomic.Int64 // aggregates
	yields  atomic.Int64 // of this lane as a stand-in, since it was last assigned

	mu      sync.Mutex
	current LaneStatus
	open    string          // why transactions of the lane are not closed yet
	openOn  map[string]bool // topics on which a session has found transactions open

	strange atomic.Pointer[string] // see strangerReason

	// What is known of topics and rows beyond the pipeline that found it out.
	outages *topics.Unavailable
	memory  *pipeline.Memory
}

func newLane(shared *Config, l Lane, owner string, members *election.Member) *lane {
	cfg := shared.of(l)
	cfg.Logger = cfg.Logger.With("lane", l.Name)
	n := &lane{
		Lane: l, cfg: &cfg, owner: owner, assigned: members, log: cfg.Logger,
		outages: topics.NewUnavailable(cfg.Topics.Patience), memory: pipeline.NewMemory(cfg.BatchRows),
	}
	n.current = LaneStatus{Lane: l.Name, State: Standby, Since: time.Now(), Progress: time.Now()}
	return n
}

// run serves the lane until ctx ends. Each round holds the lane's lock.
func (l *lane) run(ctx context.Context) {
	pause := l.cfg.RetryMin
	for ctx.Err() == nil {
		batches := l.batches.Load()
		err := l.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			l.change(Standby, "")
			continue
		}
		if fault := (*checkpoint.HaltError)(nil); errors.As(err, &fault) { // and said so; another process may have the lane meanwhile
			if backoff.Sleep(ctx, backoff.Jitter(checkpoint.HaltedRetry)) != nil {
				return
			}
			continue
		}
		if l.batches.Load() > batches { // it had worked: this failure is a new one
			pause = l.cfg.RetryMin
		}
		l.failed(Waiting, err)
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
		return err
	}
	defer row.Close()
	if l.partition, err = row.Register(ctx, laneNames(l.cfg.Lanes)); err != nil {
		return err
	}
	standIn, err := l.awaitLock(ctx, row)
	if err != nil {
		return err
	}
	yield, release := l.yielding(ctx, standIn)
	defer release()
	pause := l.cfg.RetryMin
	for {
		batches := l.batches.Load()
		err := l.serve(ctx, row, yield)
		if err == nil || ctx.Err() != nil || errors.Is(err, lanestore.ErrLost) {
			return err
		}
		fault := (*checkpoint.HaltError)(nil)
		if halted := errors.As(err, &fault); !halted && row.Conn().IsClosed() {
			return err
		}
		if l.batches.Load() > batches {
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
			return err
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
	if l.status().State != Halted {
		l.change(TakingOver, "")
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
	l.resumed(owned.Last.Seq)
	if l.status().State != Halted { // a lane that halted for a row runs again once that row is past
		l.running()
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
			l.log.Warn("draining took too long; the batches in flight are left to the next owner", "timeout", l.cfg.DrainTimeout)
			cancel()
		case <-finished:
		}
	})
	err = p.Run(runCtx, drain)
	close(finished)
	group.Wait()
	return err
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
	l.failed(Waiting, err)
	l.tell(ctx, row, Waiting, l.status().Reason)
}

// halted reports a contradiction, once for each diagnosis.
func (l *lane) halted(ctx context.Context, row *lanestore.Row, err error) {
	if status := l.status(); status.State != Halted || status.Reason != err.Error() {
		l.log.Error("lane halted", "error", err)
	}
	l.failed(Halted, err)
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

func (l *lane) status() LaneStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	status := l.current
	status.ParkedAggregates = int(l.parked.Load())
	return status
}

// running reports that the lane works, and what it works without: topics, the ends of transactions,
// or its lock.
func (l *lane) running() {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	l.change(Running, brief.Join(l.outages.Reason(), open, l.strangerReason()))
}

// unclosed is told why transactions are not closed yet; empty when all are, or nothing is known to
// hold them up.
func (l *lane) unclosed(reason string) {
	l.mu.Lock()
	changed := l.open != reason
	l.open = reason
	state := l.current.State
	l.mu.Unlock()
	if !changed {
		return
	}
	if reason != "" {
		l.log.Warn("read_committed readers may be waiting for the end of a transaction", "reason", reason)
	}
	if state == Running {
		l.running()
	}
}

// foundOpen remembers a topic on which a transaction was left open, for the takeover that ends it.
func (l *lane) foundOpen(topic string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.openOn == nil {
		l.openOn = make(map[string]bool)
	}
	l.openOn[topic] = true
}

// leftOpen lists those topics.
func (l *lane) leftOpen() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Keys(l.openOn))
}

// forgetOpen is told the topics at which a takeover has looked.
func (l *lane) forgetOpen(topics []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, topic := range topics {
		delete(l.openOn, topic)
	}
}

// change sets the state and tells the hook if it differs.
func (l *lane) change(state State, reason string) { l.changeTo(state, reason, nil) }

// failed is change for a state that an error explains.
func (l *lane) failed(state State, err error) { l.changeTo(state, err.Error(), err) }

func (l *lane) changeTo(state State, reason string, err error) {
	if state != Halted { // a diagnosis names what to do at its end
		reason = brief.Cut(reason, brief.Longest)
	}
	if state == Standby {
		l.parked.Store(0) // it is the owner's to know
	}
	l.mu.Lock()
	if l.current.State == state && l.current.Reason == reason {
		l.mu.Unlock()
		return
	}
	l.current.State, l.current.Reason, l.current.Err = state, reason, err
	l.current.Since = time.Now()
	status := l.current
	l.mu.Unlock()
	l.cfg.Hooks.changed(status)
}

// resumed is told the sequence number from which a session goes on.
func (l *lane) resumed(seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.Seq, l.current.Progress = seq, time.Now()
}

func (l *lane) progressed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.Progress = time.Now()
}

// caughtUp is told when nothing is left to read: whatever a lane has halted for is gone.
func (l *lane) caughtUp() {
	if l.status().State == Halted {
		l.running()
	}
}

func (l *lane) committed(b pipeline.Batch) {
	l.mu.Lock()
	l.current.Seq, l.current.Progress = b.Seq, time.Now()
	l.mu.Unlock()
	l.batches.Add(1)
	l.running()
	l.cfg.Hooks.committed(b)
}
