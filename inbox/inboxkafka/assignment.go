package inboxkafka

import (
	"context"

	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// Which partitions are assigned, how far each one has come, and starting over after a crash of
// Postgres.

// assign puts in the partitions that are not there yet, as made, and returns them. member is who
// they are assigned to.
func (s *scheduler) assign(
	member string, partitions map[string][]int32, made func(topicPartition, inboxloop.Incarnation) *partition,
) (begun []*partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.member = member
	for topic, numbers := range partitions {
		for _, n := range numbers {
			at := topicPartition{topic, n}
			if s.draining || s.partitions[at] != nil {
				continue
			}
			p := made(at, s.incarnation)
			s.partitions[at] = p
			begun = append(begun, p)
		}
	}
	return begun
}

// assignedNow returns the partitions that are assigned and not closed.
func (s *scheduler) assignedNow() (all []topicPartition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for at, p := range s.partitions {
		if !p.closed {
			all = append(all, at)
		}
	}
	return all
}

// find returns a partition, or nil.
func (s *scheduler) find(at topicPartition) *partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.partitions[at]
}

// remove takes a partition out.
func (s *scheduler) remove(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.partitions, p.topicPartition)
	delete(s.paused, p)
	s.room.Signal()
}

// watermarks are the positions to commit, of all partitions that stay or of those that go; the
// member that has them; and the incarnation in which all before them was decided.
func (s *scheduler) watermarks(gone []closing) (marks map[*partition]position, member string, since inboxloop.Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	marks = map[*partition]position{}
	add := func(p *partition) {
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
		add(p.partition)
	}
	return marks, s.member, s.incarnation
}

// flushed notes what a flush has spoken for.
func (s *scheduler) flushed(marks map[*partition]position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, mark := range marks {
		p.from = mark
	}
	s.rewinds = 0
}

// committed notes that a position was committed.
func (s *scheduler) committed(p *partition, mark position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.committed = mark
}

// endMissing reports whether there is a partition whose end is not known.
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

// setEnds notes where the log of a partition begins and can be read to; -1 is not known.
func (s *scheduler) setEnds(at topicPartition, start, stable int64) {
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
func (s *scheduler) reached(p *partition) int64 {
	reached := int64(-1)
	mark, known := p.tracker.watermark()
	next, begun := s.next[p.topicPartition]
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
		// What the topic has deleted is not waited for.
		reached = max(reached, min(p.start, p.stable))
	}
	return reached
}

// forgotten has what may be forgotten read once more.
func (s *scheduler) forgotten() {
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

// toRewind reports whether the incarnation has ended.
func (s *scheduler) toRewind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rewinding
}

// pollContext is the context of a poll, which forgotten ends.
func (s *scheduler) pollContext(ctx context.Context) (polling context.Context, stop context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	polling, stop = context.WithCancel(ctx)
	if s.rewinding {
		stop()
	}
	s.stopPoll = stop
	return polling, stop
}

// countRewind counts the rewinds since the last flush.
func (s *scheduler) countRewind() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rewinds++
	return s.rewinds
}

// beginAgain puts a new partition in the place of each one, in the incarnation that the database is
// in now, and returns them. After a crash of the process before, the first records of each are
// looked at with care.
func (s *scheduler) beginAgain(
	now inboxloop.Incarnation, made func(topicPartition, inboxloop.Incarnation) *partition, careful int,
) (begun []*partition) {
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
		p := made(at, now)
		p.start = old.start
		p.from, p.entered, p.committed, p.stable, p.crashed = old.from, old.entered, old.committed, old.stable, old.crashed
		if p.crashed {
			p.careful = careful
		}
		s.close(old, true)
		old.stop()
		delete(s.paused, old)
		s.partitions[at] = p
		begun = append(begun, p)
		if p.entered {
			s.next[at] = p.from.offset
		}
	}
	return begun
}
