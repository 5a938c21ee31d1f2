package pipeline

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/position"
)

// reader follows the outbox. While more is visible than a page takes, it reads ahead: a page is
// produced while the batch before it commits, and another one waits. If the last page had
// everything, it reads again only once that is committed. Rows that come in meanwhile wait for one
// commit, and not for those of smaller batches before theirs; and the intent of their batch is
// written while it is produced, which a committer that is busy cannot do.
type reader struct {
	outbox               *outboxread.Reader
	pollMin, pollMax     time.Duration
	progressed, caughtUp func()
	step                 func(Step)
	wanted               <-chan struct{} // gives a value if no batch is under way
	drain                <-chan struct{} // closed if the lane is to end
	ended                <-chan struct{} // closed if the publisher begins nothing more
}

func (p *Pipeline) newReader(publisher *publisher) *reader {
	return &reader{
		outbox: p.d.Reader, pollMin: p.o.PollMin, pollMax: p.o.PollMax,
		progressed: p.lane.Progressed, caughtUp: p.lane.CaughtUp, step: p.o.Step,
		wanted: publisher.wanted, drain: publisher.drain, ended: publisher.ended,
	}
}

// pollShare is which part of the time without a row a pause after an empty read lasts: a row that
// comes after some time waits for a small part of that.
const pollShare = 8

// run reads one page after the other from a position on. An empty read moves the position in memory
// only.
func (r *reader) run(ctx context.Context, at position.Position, pages chan<- *outboxread.Page) error {
	found, ahead := time.Now(), true
	for {
		if !ahead {
			if ends, err := endsBefore(ctx, r, r.wanted); ends {
				return err
			}
			ahead = true
		}
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
			found, ahead = time.Now(), at.Open()
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
		pause := time.NewTimer(min(max(time.Since(found)/pollShare, r.pollMin), r.pollMax))
		ends, err := endsBefore(ctx, r, pause.C)
		pause.Stop()
		if ends {
			return err
		}
	}
}

// endsBefore waits for a value, and reports whether the reader ends before there is one.
func endsBefore[T any](ctx context.Context, r *reader, value <-chan T) (ends bool, err error) {
	select {
	case <-value:
		return false, nil
	case <-r.drain:
		return true, nil
	case <-r.ended:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}
