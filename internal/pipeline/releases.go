package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// gatherTime bounds the reading of many short queues for one batch.
const gatherTime = 50 * time.Millisecond

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

func (r *releases) end() { r.planner.Trying = nil }

// expected reports whether there may be something to release soon.
func (r *releases) expected() bool {
	return len(r.planner.Keys) > 0 || r.planner.Requested || time.Now().Before(r.planner.Until)
}

// next returns a page of parked rows that may go on, and what plans it; nil if there is nothing to
// do. The page is to be put back.
func (r *releases) next(ctx context.Context, last begun) (*outboxread.Page, func() *parking.Plan, error) {
	if err := r.trySuspendedTopics(ctx); err != nil {
		return nil, nil, err
	}
	tasks, err := r.tasks(ctx)
	if err != nil || len(tasks) == 0 {
		return nil, nil, err
	}
	// What the batches in flight park, release and close is seen once they are committed.
	if err := r.commits.await(ctx, last.seq); err != nil {
		return nil, nil, err
	}
	if tasks, err = r.tasks(ctx); err != nil || len(tasks) == 0 {
		return nil, nil, err
	}
	page, segments, fixed, err := r.gather(ctx, tasks, last)
	if err != nil {
		return nil, nil, err
	}
	return page, func() *parking.Plan { return r.planner.PlanParked(page, segments, *fixed) }, nil
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
			if r.planner.Trying == nil {
				r.planner.Trying = make(map[string]bool)
			}
			r.planner.Trying[topic] = true
		}
	}
	return nil
}

// tasks returns what is to be done about parked rows.
func (r *releases) tasks(ctx context.Context) ([]parking.Task, error) {
	tasks, err := r.queue.Requests(ctx)
	if err != nil {
		return nil, err
	}
	r.planner.Requested = len(tasks) > 0
	return append(tasks, r.planner.Free()...), nil
}

// gather reads the parked rows of as many tasks as a page takes. What needs no row to be sent is in
// the plan that it returns.
func (r *releases) gather(
	ctx context.Context, tasks []parking.Task, last begun,
) (*outboxread.Page, []parking.Segment, *parking.Plan, error) {
	page, plan := r.queue.Page(), &parking.Plan{After: last.after}
	page.After = last.after
	var segments []parking.Segment
	taken := make(map[string]bool)
	began, most := time.Now(), r.memory.Rows()
	for _, t := range tasks {
		// What is discarded counts as well: the intent of the batch has to be written in time.
		if taken[t.Key] || len(page.IDs)+len(plan.Releases) >= most || time.Since(began) > gatherTime {
			continue
		}
		taken[t.Key] = true
		if _, parked := r.planner.Keys[t.Key]; !parked && r.planner.Partial {
			r.planner.Add(t.Key, parking.Key{}) // if it is parked is seen in its queue
		}
		if _, parked := r.planner.Keys[t.Key]; !parked {
			plan.Answer(t.Request, "nothing was parked")
			continue
		}
		room := most - len(page.IDs) - len(plan.Releases)
		if t.Action == "discard" {
			if err := r.queue.Discard(ctx, t, plan, r.planner.Keys[t.Key], room); err != nil {
				r.queue.Put(page)
				return nil, nil, nil, err
			}
			continue
		}
		from := len(page.IDs)
		all, err := r.queue.ReadQueue(ctx, t, page, min(room, r.queue.Limit()))
		if err != nil { // the page has been put back
			return nil, nil, nil, fmt.Errorf("read parked rows: %w", err)
		}
		segments = append(segments, parking.Segment{Task: t, From: from, To: len(page.IDs), End: all})
		for i := from; i < len(page.IDs); i++ {
			delete(r.planner.Poison, page.Key(i)) // it is tried again
		}
	}
	return page, segments, plan, nil
}
