package schedule

import (
	"context"

	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// Which partitions are assigned, how far each one has come, and starting over after a crash of
// Postgres.

// Assign puts in the partitions that are not there yet, and returns them. member is who they are
// assigned to.
func (s *Scheduler) Assign(member string, partitions map[string][]int32) (begun []*Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = member
	for topic, numbers := range partitions {
		for _, n := range numbers {
			at := TopicPartition{topic, n}
			if s.draining || s.partitions[at] != nil {
				continue
			}
			p := s.newPartition(at)
			s.partitions[at] = p
			begun = append(begun, p)
		}
	}
	return begun
}

// Assigned returns the partitions that are assigned and not closed.
func (s *Scheduler) Assigned() (all []TopicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.partitions {
		if !p.closed {
			all = append(all, at)
		}
	}
	return all
}

// Find returns a partition, or nil.
func (s *Scheduler) Find(at TopicPartition) *Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[at]
}

// Remove takes a partition out.
func (s *Scheduler) Remove(p *Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partitions, p.TopicPartition)
	delete(s.paused, p)
	s.room.Signal()
}

// newPartition returns a partition whose messages are decided in the incarnation of now.
func (s *Scheduler) newPartition(at TopicPartition) *Partition {
	p := newPartition(s.options.Handling(s.incarnation), at)
	p.incarnation = s.incarnation
	return p
}

// Watermarks are the positions to commit, of all partitions that stay or of those that go; the
// member that has them; and the incarnation in which all before them was decided.
func (s *Scheduler) Watermarks(
	gone []*Partition,
) (marks map[*Partition]Position, member string, since inboxloop.Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	marks = map[*Partition]Position{}
	add := func(p *Partition) {
		mark, known := p.tracker.watermark()
		if known && mark != p.committed && !p.lost && p.incarnation == s.incarnation {
			marks[p] = mark
		}
	}
	if gone == nil {
		for _, p := range s.partitions {
			if !p.closed {
				add(p)
			}
		}
	}
	for _, p := range gone {
		add(p)
	}
	return marks, s.member, s.incarnation
}

// Flushed notes what a flush has spoken for.
func (s *Scheduler) Flushed(marks map[*Partition]Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, mark := range marks {
		p.from = mark
	}
	s.rewinds = 0
}

// Committed notes that a position was committed.
func (s *Scheduler) Committed(p *Partition, mark Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.committed = mark
}

// EndMissing reports whether there is a partition whose end is not known.
func (s *Scheduler) EndMissing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.partitions {
		if p.stable < 0 {
			return true
		}
	}
	return false
}

// SetEnds notes where the log of a partition begins and can be read to; -1 is not known.
func (s *Scheduler) SetEnds(at TopicPartition, start, stable int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil {
		return
	}
	if start >= 0 {
		p.start = start
	}
	p.stable = max(p.stable, stable)
}

// reached is the offset up to which all of a partition is done, -1 if that is not known.
func (s *Scheduler) reached(p *Partition) int64 {
	reached := int64(-1)
	mark, known := p.tracker.watermark()
	next, begun := s.next[p.TopicPartition]
	switch {
	case known:
		reached = mark.Offset
	case p.tracker.window() > 0:
		reached = p.tracker.entries[0].offset
	case begun:
		reached = next
	case s.options.FromStart:
		reached = p.start
	}
	if reached >= 0 {
		// What the topic has deleted is not waited for.
		reached = max(reached, min(p.start, p.stable))
	}
	return reached
}

// Forgotten has what may be forgotten read once more.
func (s *Scheduler) Forgotten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rewinding {
		return
	}
	s.rewinding = true
	if s.stopPoll != nil {
		s.stopPoll()
	}
	s.wake()
}

// Rewinding reports whether the incarnation has ended.
func (s *Scheduler) Rewinding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rewinding
}

// PollContext is the context of a poll, which Forgotten ends.
func (s *Scheduler) PollContext(ctx context.Context) (polling context.Context, stop context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	polling, stop = context.WithCancel(ctx)
	if s.rewinding {
		stop()
	}
	s.stopPoll = stop
	return polling, stop
}

// CountRewind counts the rewinds since the last flush.
func (s *Scheduler) CountRewind() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewinds++
	return s.rewinds
}

// Rewind puts a new partition in the place of each one, in the incarnation that the database is
// in now, and returns them. If a process before crashed, the first records of each are looked at
// with care.
func (s *Scheduler) Rewind(now inboxloop.Incarnation) (begun []*Partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wake()
	s.rewinding = false
	if now == s.incarnation || s.draining {
		return nil // the one that noticed had begun before the last rewind
	}
	s.incarnation = now
	for at, old := range s.partitions {
		if old.closed {
			continue
		}
		p := s.newPartition(at)
		p.start = old.start
		p.from, p.entered, p.committed, p.stable, p.crashed = old.from, old.entered, old.committed, old.stable, old.crashed
		if p.crashed {
			p.careful = s.options.MaxRecords
		}
		s.closePartition(old, true)
		old.Stop()
		delete(s.paused, old)
		s.partitions[at] = p
		begun = append(begun, p)
		if p.entered {
			s.next[at] = p.from.Offset
		}
	}
	return begun
}
