package relay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/parking"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/topics"
)

// How long the producing goroutine waits before it looks again whether a parked aggregate may go
// on, and how many batches of parked rows it publishes in a row before it turns to new rows.
const (
	parkedLook   = time.Second
	parkedRounds = 2
)

// gatherTime bounds the reading of many short queues for one batch.
const gatherTime = 50 * time.Millisecond

// reloadParked reads what is parked again if memory held a part of it only, and there is room by
// now.
func (s *session) reloadParked(ctx context.Context) error {
	if !s.parking.Partial || s.parking.Bytes > s.cfg.parkedBytes/2 {
		return nil
	}
	if err := s.awaitCommitted(ctx); err != nil {
		return err
	}
	if err := parking.Load(ctx, s.queue.Conn(), s.lane.Name, s.parking, s.queue.Routed); err != nil {
		return err
	}
	if !s.parking.Full() {
		s.lane.running()
	}
	return nil
}

// openQueue connects to Postgres for the producing goroutine, once it needs that.
func (s *session) openQueue(ctx context.Context) (err error) {
	if s.queue == nil {
		s.queue, err = parking.OpenQueue(ctx, s.readerOptions(), s.row.Server())
	}
	return err
}

// planned makes a plan. If it begins with a large row that can be sent, as far as is known, that
// row's payload is read first.
func (s *session) planned(ctx context.Context, p *outboxread.Page, first int, sieve func() *parking.Plan) (*parking.Plan, error) {
	pl := sieve()
	if !pl.Fetch {
		return pl, nil
	}
	if err := s.fetchLarge(ctx, p, first); err != nil {
		return nil, err
	}
	return sieve(), nil
}

// fetchLarge reads the payload of a large row from where the page was read.
func (s *session) fetchLarge(ctx context.Context, p *outboxread.Page, i int) error {
	if err := s.openQueue(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	query, args := `SELECT payload FROM `+pg.QuoteTable(s.lane.Table)+` WHERE id = $1`, []any{p.IDs[i]}
	if len(p.Places) > 0 {
		query, args = `SELECT payload FROM outbox_parked WHERE lane = $1 AND place = $2`, []any{s.lane.Name, p.Places[i]}
	}
	var payload []byte
	err := s.queue.Conn().QueryRow(ctx, query, args...).Scan(&payload)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && len(payload) != p.Unread(i) {
		err = parking.ErrRowsGone
	}
	if err != nil {
		return fmt.Errorf("read the payload of row id %d: %w", p.IDs[i], err)
	}
	p.Fetch(i, payload)
	return nil
}

// lookAfterParked carries out what was asked for, and sends what waited for a topic that is back.
// It returns when to look again; 0 is never.
func (s *session) lookAfterParked(ctx context.Context, batches chan<- *batch) (time.Duration, error) {
	if err := s.openQueue(ctx); err != nil {
		return 0, err
	}
	defer func() { s.parking.Trying = nil }()
	if err := s.reloadParked(ctx); err != nil {
		return 0, err
	}
	for range parkedRounds {
		select {
		case <-s.drain:
			return 0, nil
		default:
		}
		more, err := s.releaseSome(ctx, batches)
		if err != nil {
			return 0, err
		}
		if !more {
			if len(s.parking.Keys) > 0 || s.parking.Requested || time.Now().Before(s.parking.Until) {
				return parkedLook, nil
			}
			return 0, nil
		}
	}
	return time.Nanosecond, nil
}

// releaseSome publishes a page of parked rows, and reports whether there was anything to do.
func (s *session) releaseSome(ctx context.Context, batches chan<- *batch) (bool, error) {
	if err := s.tryHeldTopics(ctx); err != nil {
		return false, err
	}
	tasks, err := s.tasks(ctx)
	if err != nil || len(tasks) == 0 {
		return false, err
	}
	// What the batches in flight park, release and close is seen once they are committed.
	if err := s.awaitCommitted(ctx); err != nil {
		return false, err
	}
	if tasks, err = s.tasks(ctx); err != nil || len(tasks) == 0 {
		return false, err
	}
	p, segments, pl, err := s.gather(ctx, tasks)
	if err != nil {
		return false, err
	}
	if ready, err := s.awaitTopics(ctx, p); err != nil || !ready {
		return false, err
	}
	if err := s.checkLimits(ctx, p); err != nil {
		return false, err
	}
	fixed := *pl
	sieve := func() *parking.Plan { return s.parking.PlanParked(p, segments, fixed) }
	if pl, err = s.planned(ctx, p, 0, sieve); err != nil {
		return false, err
	}
	if pl.Empty() {
		s.queue.Put(p)
		return false, nil
	}
	if _, err = s.send(ctx, p, pl, sieve, batches); err != nil {
		return false, err // the client may still hold records of the page
	}
	s.queue.Put(p)
	return true, nil
}

// checkLimits asks for the limits of topics again if a record of the page is larger than what is
// known. A limit that was raised needs a new session.
func (s *session) checkLimits(ctx context.Context, p *outboxread.Page) error {
	if p.Largest <= s.topics.SmallestLimit() {
		return nil
	}
	ask := make(map[string]bool)
	for i := range p.Records {
		topic := p.Records[i].Topic
		if _, known := s.topics.Known(topic); known && p.Size(i) > s.topics.Limit(topic) {
			ask[topic] = true
		}
	}
	if len(ask) == 0 {
		return nil
	}
	if err := s.topics.Refresh(ctx, slices.Sorted(maps.Keys(ask))...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	for i := range p.Records {
		if ask[p.Records[i].Topic] {
			if err := s.renew(p, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// tasks returns what is to be done about parked rows.
func (s *session) tasks(ctx context.Context) ([]parking.Task, error) {
	tasks, err := s.queue.Requests(ctx)
	if err != nil {
		return nil, err
	}
	s.parking.Requested = len(tasks) > 0
	return append(tasks, s.parking.Free()...), nil
}

// awaitCommitted waits until every batch that was begun has been committed.
func (s *session) awaitCommitted(ctx context.Context) error {
	for s.committed.Load() < s.seq {
		select {
		case <-s.settled:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// tryHeldTopics looks whether held topics are back. One that seems to be is tried with the next
// batch of parked rows.
func (s *session) tryHeldTopics(ctx context.Context) error {
	due := s.topics.Unavailable.Due()
	if len(due) == 0 {
		return nil
	}
	if err := s.topics.Refresh(ctx, due...); err != nil && !errors.Is(err, topics.ErrJustCreated) {
		return err
	}
	for _, topic := range due {
		if _, known := s.topics.Known(topic); known {
			if s.parking.Trying == nil {
				s.parking.Trying = make(map[string]bool)
			}
			s.parking.Trying[topic] = true
		}
	}
	return nil
}

// gather reads the parked rows of as many tasks as a page takes. What needs no row to be sent is in
// the plan that it returns.
func (s *session) gather(ctx context.Context, tasks []parking.Task) (*outboxread.Page, []parking.Segment, *parking.Plan, error) {
	p, pl := s.queue.Page(), &parking.Plan{After: s.progress}
	p.After = s.progress
	var segments []parking.Segment
	taken := make(map[string]bool)
	began, most := time.Now(), s.cfg.pace.rows()
	for _, t := range tasks {
		// What is discarded counts as well: the intent of the batch has to be written in time.
		if taken[t.Key] || len(p.IDs)+len(pl.Releases) >= most || time.Since(began) > gatherTime {
			continue
		}
		taken[t.Key] = true
		if _, parked := s.parking.Keys[t.Key]; !parked && s.parking.Partial {
			s.parking.Add(t.Key, parking.Key{}) // if it is parked is seen in its queue
		}
		if _, parked := s.parking.Keys[t.Key]; !parked {
			pl.Answer(t.Request, "nothing was parked")
			continue
		}
		if t.Action == "discard" {
			if err := s.queue.Discard(ctx, t, pl, s.parking.Keys[t.Key], most-len(p.IDs)-len(pl.Releases)); err != nil {
				s.queue.Put(p)
				return nil, nil, nil, err
			}
			continue
		}
		from, room := len(p.IDs), min(most-len(p.IDs)-len(pl.Releases), s.queue.Limit())
		all, err := s.queue.ReadQueue(ctx, t, p, room)
		if err != nil { // the page has been put back
			return nil, nil, nil, fmt.Errorf("read parked rows: %w", err)
		}
		segments = append(segments, parking.Segment{Task: t, From: from, To: len(p.IDs), End: all})
		for i := from; i < len(p.IDs); i++ {
			delete(s.parking.Poison, p.Key(i)) // it is tried again
		}
	}
	return p, segments, pl, nil
}
