package relay

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/outbox-relay/relay/internal/election"
	"github.com/outbox-relay/relay/internal/lanestore"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/timeline"
)

// Relay publishes the outbox tables of one database to one Kafka cluster.
type Relay struct {
	cfg   Config
	lanes atomic.Pointer[[]*lane]
}

// New returns a Relay; it connects to nothing.
func New(cfg Config) *Relay { return &Relay{cfg: cfg.withInternals()} }

// errRunning says that Run was called twice.
var errRunning = errors.New("this Relay runs already")

// Run publishes until ctx is cancelled, then drains the batches in flight and returns nil. It waits
// for what is unavailable while it runs, and returns an error only for what waiting cannot mend.
func (r *Relay) Run(ctx context.Context) error {
	cfg := r.cfg
	if step, ok := ctx.Value(stepKey{}).(func(pipeline.Step)); ok {
		cfg.Step = step
	}
	if trace, ok := ctx.Value(traceKey{}).(func(timeline.Batch)); ok {
		cfg.Trace = trace
	}
	members := election.NewMember()
	owner := lanestore.NewOwner()
	lanes := make([]*lane, len(cfg.Lanes))
	for i, l := range cfg.Lanes {
		lanes[i] = newLane(&cfg, l, owner, members)
	}
	if !r.lanes.CompareAndSwap(nil, &lanes) {
		return errRunning
	}
	defer r.lanes.Store(nil)
	// The group learns that this process goes once nothing is left to drain.
	memberCtx, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	left := make(chan error, 1)
	go func() { left <- members.Run(memberCtx, cfg.electionOptions()) }()
	var group sync.WaitGroup
	for _, l := range lanes {
		group.Go(func() { l.run(ctx) })
	}
	group.Wait()
	leave()
	return <-left
}

// Status returns the state of every lane in this process; it is empty unless Run runs.
func (r *Relay) Status() []LaneStatus {
	lanes := r.lanes.Load()
	if lanes == nil {
		return nil
	}
	statuses := make([]LaneStatus, len(*lanes))
	for i, l := range *lanes {
		statuses[i] = l.state.status()
	}
	return statuses
}
