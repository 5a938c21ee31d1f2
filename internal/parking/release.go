package parking

import (
	"strings"

	"github.com/outbox-relay/relay/internal/outboxread"
)

// segment is the part of a page of parked rows that belongs to one task.
type segment struct {
	task
	from, to int  // places in the page
	end      bool // of the aggregate's queue
}

// free returns the aggregates that nothing holds any more. An aggregate whose topic has been
// written to again is one of them.
func (k *Planner) free() []task {
	var tasks []task
	for key, state := range k.keys {
		if !state.free && (state.topic == "" || k.suspended(state.topic) != nil) {
			continue
		}
		aggregateType, aggregateID, _ := strings.Cut(key, "\x00")
		tasks = append(tasks, task{key: key, aggregateType: aggregateType, aggregateID: aggregateID, action: "retry"})
		if len(tasks) == 1000 {
			break
		}
	}
	return tasks
}

// suspended returns why rows of a topic are not sent now, or nil.
func (k *Planner) suspended(topic string) error {
	if k.trying[topic] {
		return nil
	}
	return k.topics.Unavailable.Suspended(topic)
}

// planParked decides about a page of parked rows: each aggregate goes on up to the first row that
// is refused again. It adds to the plan, which it is given by value.
func (k *Planner) planParked(p *outboxread.Page, segments []segment, pl Plan) *Plan {
	pl.Sent, pl.Bytes = len(p.Records), p.Bytes
	faults := make(map[int]error, len(p.Faults))
	for _, f := range p.Faults {
		faults[f.At] = f.Err
	}
	// The slices are those of the plan that every attempt starts from.
	pl.Releases, pl.done, pl.freed = pl.Releases[:len(pl.Releases):len(pl.Releases)], pl.done[:len(pl.done):len(pl.done)],
		pl.freed[:len(pl.freed):len(pl.freed)]
	kept := pl.keys
	pl.keys = nil
	for key, state := range kept {
		pl.park(key, state)
	}
	k.pieces.begin(p)
	pl.Next = len(p.Records)
	for _, seg := range segments {
		k.planSegment(p, seg, &pl, faults)
	}
	return &pl
}

func (k *Planner) planSegment(p *outboxread.Page, seg segment, pl *Plan, faults map[int]error) {
	stopped := false
	for i := seg.from; i < seg.to; i++ {
		if stopped || i >= pl.Next {
			pl.leaveOut(p, i)
			continue
		}
		place, record := p.Places[i], &p.Records[i]
		refused := faults[i]
		if refused == nil {
			refused = k.refuses(p, i)
		}
		suspended := k.suspended(record.Topic)
		switch {
		case refused != nil:
			stopped = true
			pl.again = append(pl.again, aside{place: place, cause: causeRefused, err: refused.Error()})
			pl.park(seg.key, aggregate{})
			k.close(seg, pl, "refused again: "+refused.Error())
		case suspended != nil:
			stopped = true
			pl.again = append(pl.again, aside{place: place, cause: causeTopic, err: suspended.Error()})
			pl.park(seg.key, aggregate{topic: record.Topic})
			k.close(seg, pl, "it goes out by itself once its topic is back: "+suspended.Error())
		case p.IsLarge(i) && i > 0, k.pieces.ends(p, i):
			pl.Next = i // the rest comes with the next batch
		case p.IsLarge(i) && !p.Fetched(i):
			pl.Next, pl.Fetch = i, true
		default:
			pl.Releases = append(pl.Releases, release{place, seg.request})
			continue
		}
		pl.leaveOut(p, i)
	}
	switch {
	case stopped, seg.from >= pl.Next && seg.from < seg.to:
	case seg.end && seg.to <= pl.Next:
		pl.freed = append(pl.freed, seg.key)
		k.close(seg, pl, "published")
	case seg.request == 0:
		pl.park(seg.key, aggregate{free: true}) // there is more
	}
}

func (k *Planner) close(seg segment, pl *Plan, text string) {
	if seg.request != 0 {
		pl.done = append(pl.done, outcome{seg.request, text})
	}
}
