package schedule

import (
	"context"
	"time"
)

// The way of records in: entered as they were polled, looked up, and released to the queues of
// their keys.

// Admit hands the records of a partition to it, with where its log begins and can be read to, and
// tells how many before them were deleted unread, and from where on.
func (s *Scheduler) Admit(at TopicPartition, items []*Item, start, stable int64) (from, gone int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil || p.closed {
		return 0, 0
	}
	for _, i := range items {
		s.hold(p, i, i.Offset)
	}
	p.start, p.stable = max(p.start, start), max(p.stable, stable)
	p.arrive(items)
	return s.deleted(at, items, start)
}

// AdmitUnread hands over one item that stands for a batch up to the offset before next, which was
// not read. It returns false if the partition is gone.
func (s *Scheduler) AdmitUnread(at TopicPartition, i *Item, next int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil || p.closed {
		return false
	}
	s.hold(p, i, next-1)
	p.arrive([]*Item{i})
	s.next[at] = next
	return true
}

// hold counts an item among what is held, and gives it a place in the tracker. It stands for the
// offsets from its own to last.
func (s *Scheduler) hold(p *Partition, i *Item, last int64) {
	if p.tracker.window() == 0 {
		p.moved = time.Now()
	}
	if !p.entered {
		p.entered, p.from = true, Position{i.Offset, -1}
	}
	i.place = p.tracker.addRange(i.Offset, last, i.Epoch)
	s.held++
	p.held++
	s.bytes += i.Bytes
	p.bytes += i.Bytes
}

// arrive hands items to the intake of the partition.
func (p *Partition) arrive(items []*Item) {
	p.incoming = append(p.incoming, items...)
	select {
	case p.Arrived <- struct{}{}:
	default:
	}
}

// SetNext notes which offset the client reads next; a negative one is not known.
func (s *Scheduler) SetNext(at TopicPartition, offset int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.next, at)
	if offset >= 0 {
		s.next[at] = offset
	}
}

// deleted returns how many offsets of a partition the brokers deleted before this group had read
// them, and where the first one was. It is called with everything that is entered, in order. An
// offset may have been that of a marker of a transaction, so it is the most that records can be.
func (s *Scheduler) deleted(at TopicPartition, items []*Item, start int64) (from, gone int64) {
	next, known := s.next[at]
	first, last := items[0].Offset, items[len(items)-1].Offset
	s.next[at] = last + 1
	if !known || start <= next || first < start {
		return 0, 0
	}
	s.counts.Deleted += start - next
	return next, start - next
}

// Unreadable returns what deleted does, for a partition from which nothing comes any more: its log
// begins behind the offset that is read next. It is called now and then, when the client holds no
// records, and answers at the second look that finds the same: at the first one the records may be
// on their way.
func (s *Scheduler) Unreadable(at TopicPartition) (from, gone int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	next, known := s.next[at]
	if p == nil || p.closed || !known || p.start <= next {
		return 0, 0
	}
	if p.behind != next {
		p.behind = next
		return 0, 0
	}
	s.next[at] = p.start
	s.counts.Deleted += p.start - next
	return next, p.start - next
}

// Arrivals takes up to most records that have come in.
func (s *Scheduler) Arrivals(p *Partition, most int) []*Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(most, len(p.incoming))
	items := p.incoming[:n:n]
	p.incoming = p.incoming[n:]
	if len(p.incoming) == 0 {
		p.incoming = nil
	}
	return items
}

// PassMarkers ends the markers of transactions, and returns the rest, and whether there is a
// partition to resume.
func (s *Scheduler) PassMarkers(p *Partition, items []*Item) (rest []*Item, resume bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if !i.Marker {
			rest = append(rest, i)
			continue
		}
		s.letGo(p, i)
		if !p.closed {
			p.done(i.place)
		}
	}
	s.room.Signal()
	return rest, s.resumable()
}

// NoteCrash notes that the process before did not end well, and returns how many records are to be
// looked at with care for that. Of what that process had in flight nothing lay further from its
// watermark than its MaxRecords, which we take to be ours. If it was larger, a message that ends
// the process may be met unprepared once more, and is careful's the next time.
func (s *Scheduler) NoteCrash(p *Partition) (careful int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.crashed, p.careful = true, s.options.MaxRecords
	return p.careful
}

// LooksUp reports whether messages of the partition are looked up before they are handled, and how
// many of the next ones are to be looked at for crashes.
func (s *Scheduler) LooksUp(p *Partition) (marks bool, careful int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.checking || p.careful > 0, p.careful
}

// SetCareful marks items as careful, with how often each was started before, and counts how many of
// the first ones were looked at for that.
func (s *Scheduler) SetCareful(p *Partition, looked int, items []*Item, starts []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, i := range items {
		i.Careful, i.Starts = true, starts[n]
	}
	p.careful -= looked
}

// Skip ends messages that were handled before, and returns the rest, and whether there is a
// partition to resume.
func (s *Scheduler) Skip(p *Partition, items []*Item, skip map[*Item]bool) (rest []*Item, resume bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.closed {
		return items, false, context.Canceled
	}
	p.checking = 10*len(skip) >= len(items)
	if len(skip) == 0 {
		return items, false, nil
	}
	rest = make([]*Item, 0, len(items)-len(skip))
	for _, i := range items {
		if !skip[i] {
			rest = append(rest, i)
			continue
		}
		p.done(i.place)
		s.letGo(p, i)
		s.counts.Skipped++
	}
	s.room.Signal()
	return rest, s.resumable(), nil
}

// Abandon lets go of items that are not handled here.
func (s *Scheduler) Abandon(p *Partition, items []*Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		s.letGo(p, i)
	}
}
