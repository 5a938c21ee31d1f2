package schedule

import (
	"context"
	"time"
)

// What is held, how much more may come in, and which partitions are not fetched from for that.

// AwaitRoom waits until records may come in, and returns how many, if none is larger than the
// largest lately; 0 is the end. It returns early, as stuck, if it has waited for so long that a
// partition may be why: Balance may pause it.
func (s *Scheduler) AwaitRoom(ctx context.Context, largest int64) (most int, stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	var stop func() bool
	for !s.draining && !s.rewinding && ctx.Err() == nil && !late {
		if most := s.allowance(largest); most > 0 {
			return most, false
		}
		if stop == nil {
			stop = s.options.After(stuckAfter, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				late = true
				s.room.Signal()
			})
			defer stop()
		}
		s.room.Wait()
	}
	return 0, late && !s.draining && !s.rewinding && ctx.Err() == nil
}

// stuckAfter is how long a partition's watermark stands still until it is taken for stuck: a key of
// it waits, or its handler takes long.
const stuckAfter = 500 * time.Millisecond

func (p *Partition) stuck(now time.Time) bool {
	return p.tracker.window() > 0 && now.Sub(p.moved) >= stuckAfter
}

// limits are how much may be held now. A quarter is kept back for the case that a partition is
// stuck and holds all the rest: then it is paused, and the others get a half of what was kept back,
// and so on with a second one.
func (s *Scheduler) limits() (records int, bytes int64) {
	if len(s.partitions) < 2 {
		return s.options.MaxRecords, s.options.MaxBytes
	}
	back := min(2+len(s.paused), 62)
	return s.options.MaxRecords - s.options.MaxRecords>>back, s.options.MaxBytes - s.options.MaxBytes>>back
}

// mostPolled bounds the records of one poll, so that they are handed out before the next partition
// has to wait.
const mostPolled = 2000

// allowance is how many records may come in without any bound being passed, if none is larger than
// the largest lately.
func (s *Scheduler) allowance(largest int64) int {
	records, bytes := s.limits()
	most := min(records-s.held, mostPolled)
	if s.breaker.state == open || most <= 0 {
		return 0
	}
	if s.held > 0 {
		most = min(most, int((bytes-s.bytes)/largest))
	} else {
		most = min(most, max(1, int(bytes/largest)))
	}
	for _, p := range s.partitions {
		if !p.paused && !p.closed {
			most = min(most, s.options.MaxRecords-p.tracker.window())
		}
	}
	return max(most, 0)
}

// Balance decides which partitions are not fetched from any more, and which are again.
func (s *Scheduler) Balance(waited bool) (pause, resume map[string][]int32) {
	pause, resume = map[string][]int32{}, map[string][]int32{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.tooFull(waited) {
		p.paused = true
		s.paused[p] = struct{}{}
		pause[p.Topic] = append(pause[p.Topic], p.Number)
	}
	for p := range s.paused {
		if !p.closed && s.eased(p) {
			p.paused = false
			delete(s.paused, p)
			resume[p.Topic] = append(resume[p.Topic], p.Number)
		}
	}
	s.room.Signal()
	return pause, resume
}

// tooFull returns the partitions to pause: stuck ones at the end of their window, or with more than
// half a share, or else the fullest of them.
func (s *Scheduler) tooFull(waited bool) (full []*Partition) {
	if !waited || s.breaker.state == open {
		return nil
	}
	now := time.Now()
	var fullest *Partition
	for _, p := range s.partitions {
		if p.closed || p.paused || !p.stuck(now) {
			continue
		}
		if 8*p.tracker.window() >= 7*s.options.MaxRecords || s.overHalfShare(p) {
			full = append(full, p)
		} else if fullest == nil || p.held > fullest.held {
			fullest = p
		}
	}
	if len(full) == 0 && fullest != nil && len(s.partitions) > 1 {
		full = append(full, fullest)
	}
	return full
}

func (s *Scheduler) overHalfShare(p *Partition) bool {
	shares := len(s.partitions)
	return shares > 1 && (2*p.held*shares > s.options.MaxRecords || 2*p.bytes*int64(shares) > s.options.MaxBytes)
}

// eased reports whether a paused partition may be fetched again.
func (s *Scheduler) eased(p *Partition) bool {
	roomy := 4*s.held < s.options.MaxRecords && 4*s.bytes < s.options.MaxBytes
	return 2*p.tracker.window() < s.options.MaxRecords && (roomy || !s.overHalfShare(p) && !p.stuck(time.Now()))
}

// resumable reports whether there is a partition that is not fetched from and may be now. Room may
// come from any other one.
func (s *Scheduler) resumable() bool {
	for p := range s.paused {
		if !p.closed && s.eased(p) {
			return true
		}
	}
	return false
}

// letGo takes a message out of what is held.
func (s *Scheduler) letGo(p *Partition, i *Item) {
	s.held--
	s.bytes -= i.Bytes
	p.held--
	p.bytes -= i.Bytes
}
