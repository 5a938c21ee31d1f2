package pipeline

import (
	"context"
	"errors"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/topics"
)

// releases are parked rows whose time has come: a person has asked for them, or their topic is
// back. The publisher uses them.
type releases struct {
	lane    string
	planner *parking.Planner
	topics  *topics.Registry
	commits *commits
	memory  *Memory
	working func()
	connect func(context.Context) (*parking.Queue, error)
	queue   *parking.Queue // of outbox_parked; nil until it is needed
}

func (p *Pipeline) newReleases(commits *commits) *releases {
	return &releases{
		lane: p.o.Name, planner: p.planner, topics: p.d.Topics, commits: commits, memory: p.memory, working: p.lane.Working,
		connect: func(ctx context.Context) (*parking.Queue, error) {
			return parking.OpenQueue(ctx, p.o.Reader, p.d.Row.Server())
		},
	}
}

// open connects to Postgres for the publisher, once it needs that.
func (r *releases) open(ctx context.Context) (err error) {
	if r.queue == nil {
		r.queue, err = r.connect(ctx)
	}
	return err
}

func (r *releases) close() {
	if r.queue != nil {
		r.queue.Close()
	}
}

// fetch reads the payload of a large row from where the page was read.
func (r *releases) fetch(ctx context.Context, page *outboxread.Page, i int) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	return r.queue.Fetch(ctx, page, i)
}

// begin starts a look at what is parked. What is parked is read again if memory held a part of it
// only, and there is room by now. end ends the look.
func (r *releases) begin(ctx context.Context, begun int64) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	if !r.planner.HasRoomAgain() {
		return nil
	}
	if err := r.commits.await(ctx, begun); err != nil {
		return err
	}
	if err := parking.Load(ctx, r.queue.Conn(), r.lane, r.planner, r.queue.Routed); err != nil {
		return err
	}
	if !r.planner.Full() {
		r.working()
	}
	return nil
}

func (r *releases) end() { r.planner.StopTryingAll() }

// next returns a page of parked rows that may go on, and what plans it; nil if there is nothing to
// do. The page is to be put back.
func (r *releases) next(ctx context.Context, last begun) (*outboxread.Page, func() *parking.Plan, error) {
	if err := r.trySuspendedTopics(ctx); err != nil {
		return nil, nil, err
	}
	work, err := r.queue.Work(ctx, r.planner)
	if err != nil || len(work) == 0 {
		return nil, nil, err
	}
	// What the batches in flight park, release and close is seen once they are committed.
	if err := r.commits.await(ctx, last.seq); err != nil {
		return nil, nil, err
	}
	if work, err = r.queue.Work(ctx, r.planner); err != nil || len(work) == 0 {
		return nil, nil, err
	}
	return r.queue.Gather(ctx, r.planner, work, last.after, r.memory.Rows())
}

func (r *releases) putBack(page *outboxread.Page) { r.queue.Put(page) }

// trySuspendedTopics looks whether suspended topics are back. One that seems to be is tried with
// the next batch of parked rows.
func (r *releases) trySuspendedTopics(ctx context.Context) error {
	due := r.topics.Unavailable.Due()
	if len(due) == 0 {
		return nil
	}
	if err := r.topics.Refresh(ctx, due...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	for _, topic := range due {
		if _, known := r.topics.Known(topic); known {
			r.planner.Try(topic)
		}
	}
	return nil
}
