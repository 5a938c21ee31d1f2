package inboxkafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// asksEvery is how many intervals of commits lie between two questions for the ends of the partitions.
const asksEvery = 10

// lagLoop asks the brokers where the partitions end until ctx ends. What is fetched says so too, but the client says nothing of a fetch
// that brings nothing, and nothing is fetched while the consumer pauses.
func (c *Consumer) lagLoop(ctx context.Context, admin *kadm.Client) {
	ticker := time.NewTicker(c.cfg.CommitInterval)
	defer ticker.Stop()
	for n := 0; ; n++ {
		if n%asksEvery == 0 || c.sched.endMissing() {
			c.readEnds(ctx, admin)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// endMissing reports whether there is a partition of which nobody has said where it ends.
func (s *scheduler) endMissing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		if p.stable < 0 {
			return true
		}
	}
	return false
}

// readEnds asks once. Where there is no answer, what is known stays.
func (c *Consumer) readEnds(ctx context.Context, admin *kadm.Client) {
	limited, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	starts, err := admin.ListStartOffsets(limited, c.cfg.Topics...)
	if err == nil {
		var ends kadm.ListedOffsets
		if ends, err = admin.ListCommittedOffsets(limited, c.cfg.Topics...); err == nil {
			c.sched.setEnds(starts, ends)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.log.Debug("the ends of the partitions are not known; the lag may be old", "error", err)
	}
}

func (s *scheduler) setEnds(starts, ends kadm.ListedOffsets) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.partitions {
		if o, found := starts.Lookup(at.topic, at.number); found && o.Err == nil {
			p.start = o.Offset
		}
		if o, found := ends.Lookup(at.topic, at.number); found && o.Err == nil {
			p.stable = max(p.stable, o.Offset)
		}
	}
}

// reached is the offset up to which all of a partition is done, -1 where that is not known.
func (s *scheduler) reached(p *partition) int64 {
	reached := int64(-1)
	mark, known := p.tracker.watermark()
	next, begun := s.next[p.place]
	switch {
	case known:
		reached = mark.offset
	case p.tracker.window() > 0:
		reached = p.tracker.entries[0].offset
	case begun:
		reached = next
	case s.fromStart:
		reached = p.start
	}
	if reached >= 0 {
		// What the topic has deleted nobody waits for.
		reached = max(reached, min(p.start, p.stable))
	}
	return reached
}

// atStart reports whether a group without an offset begins at the start of the log.
func atStart(o kgo.Offset) bool {
	return o.EpochOffset().Offset == kgo.NewOffset().AtStart().EpochOffset().Offset
}
