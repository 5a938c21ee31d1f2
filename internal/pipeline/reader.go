package pipeline

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
)

// reader follows the outbox.
type reader struct {
	outbox               *outboxread.Reader
	pollMin, pollMax     time.Duration
	progressed, caughtUp func()
	step                 func(Step)
	drain                <-chan struct{} // closed if the lane is to end
	ended                <-chan struct{} // closed if the publisher begins nothing more
}

func (p *Pipeline) newReader(drain, ended <-chan struct{}) *reader {
	return &reader{
		outbox: p.d.Reader, pollMin: p.o.PollMin, pollMax: p.o.PollMax,
		progressed: p.lane.Progressed, caughtUp: p.lane.CaughtUp, step: p.o.Step, drain: drain, ended: ended,
	}
}

// run reads one page after the other from a position on. An empty read moves the position in memory
// only.
func (r *reader) run(ctx context.Context, at position.Position, pages chan<- *outboxread.Page) error {
	pause := r.pollMin
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.drain:
			return nil
		default:
		}
		r.step(BeforeRead)
		page, err := r.outbox.Next(ctx, at)
		if err != nil {
			return err
		}
		r.progressed()
		at = page.After
		if len(page.Records) > 0 {
			r.step(AfterRead)
			pause = r.pollMin
			select {
			case pages <- page:
			case <-r.drain: // not begun, so left to the next owner
				return nil
			case <-r.ended: // a row ends the pipeline
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
			continue
		}
		r.outbox.Put(page)
		if at.Open() {
			continue
		}
		r.caughtUp()
		timer.Reset(pause)
		select {
		case <-timer.C:
		case <-r.drain:
			return nil
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, r.pollMax)
	}
}
