package inboxkafka

import (
	"context"
	"time"
)

// The way of records in: entered as they were polled, looked up, and released to the queues of
// their keys.

// admit hands the records of a partition to it, with where its log begins and can be read to, and
// tells how many before them were deleted unread, and from where on.
func (s *scheduler) admit(at topicPartition, items []*item, start, stable int64) (from, gone int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil || p.closed {
		return 0, 0
	}
	for _, i := range items {
		s.hold(p, i, i.offset)
	}
	p.start, p.stable = max(p.start, start), max(p.stable, stable)
	p.arrive(items)
	return s.deleted(at, items, start)
}

// admitUnread hands over one item that stands for a batch up to the offset before next, which was
// not read. It returns false if the partition is gone.
func (s *scheduler) admitUnread(at topicPartition, i *item, next int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[at]
	if p == nil || p.closed {
		return false
	}
	s.hold(p, i, next-1)
	p.arrive([]*item{i})
	s.next[at] = next
	return true
}

// hold counts an item among what is held, and gives it a place in the tracker. It stands for the
// offsets from its own to last.
func (s *scheduler) hold(p *partition, i *item, last int64) {
	if p.tracker.window() == 0 {
		p.moved = time.Now()
	}
	if !p.entered {
		p.entered, p.from = true, position{i.offset, -1}
	}
	i.place = p.tracker.addRange(i.offset, last, i.epoch)
	s.held++
	p.held++
	s.bytes += i.bytes
	p.bytes += i.bytes
}

// arrive hands items to the intake of the partition.
func (p *partition) arrive(items []*item) {
	p.incoming = append(p.incoming, items...)
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

// setNext notes which offset the client reads next; a negative one is not known.
func (s *scheduler) setNext(at topicPartition, offset int64) {
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
func (s *scheduler) deleted(at topicPartition, items []*item, start int64) (from, gone int64) {
	next, known := s.next[at]
	first, last := items[0].offset, items[len(items)-1].offset
	s.next[at] = last + 1
	if !known || start <= next || first < start {
		return 0, 0
	}
	s.stats.Deleted += start - next
	return next, start - next
}

// arrivals takes up to most records that have come in.
func (s *scheduler) arrivals(p *partition, most int) []*item {
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

// passMarkers ends the markers of transactions, and returns the rest, and whether there is a
// partition to resume.
func (s *scheduler) passMarkers(p *partition, items []*item) (rest []*item, resume bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if !i.marker {
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

// noteCrash notes that the process before did not end well.
func (s *scheduler) noteCrash(p *partition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.crashed = true
}

// looksUp reports whether messages of the partition are looked up before they are handled.
func (s *scheduler) looksUp(p *partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.checking || p.careful > 0
}

// skip ends messages that were handled before, and returns the rest, and whether there is a
// partition to resume.
func (s *scheduler) skip(p *partition, items []*item, skip map[*item]bool) (rest []*item, resume bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.closed {
		return items, false, context.Canceled
	}
	p.checking = 10*len(skip) >= len(items)
	if len(skip) == 0 {
		return items, false, nil
	}
	rest = make([]*item, 0, len(items)-len(skip))
	for _, i := range items {
		if !skip[i] {
			rest = append(rest, i)
			continue
		}
		p.done(i.place)
		s.letGo(p, i)
		s.stats.Skipped++
	}
	s.room.Signal()
	return rest, s.resumable(), nil
}

// abandon lets go of items that are not handled here.
func (s *scheduler) abandon(p *partition, items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		s.letGo(p, i)
	}
}
