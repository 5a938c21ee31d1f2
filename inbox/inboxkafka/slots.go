package inboxkafka

import "context"

// slot is a place in flight beside the workers.
type slot struct {
	trial bool
	turn  int64
}

// enter waits for a slot to call a handler beside the workers. It returns false once nothing more
// begins, or ctx has ended. last is the slot that the caller had before: of two trials in a row the
// second one is for somebody else, if there is anybody.
func (s *scheduler) enter(ctx context.Context, last slot) (taken slot, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slots.Broadcast()
	})()
	for !s.draining && ctx.Err() == nil {
		if s.mayEnter(last) {
			s.inFlight++
			s.turn++
			return slot{s.breaker.begin(), s.turn}, true
		}
		s.slots.Wait()
	}
	return slot{}, false
}

// mayEnter reports whether a slot may begin now whose caller had the last one.
func (s *scheduler) mayEnter(last slot) bool {
	secondTrial := s.breaker.state == halfOpen && last.turn > 0 && s.turn == last.turn && s.ready.len() > 0
	return !s.alone && !s.breaker.blocks() && !s.suspectNext() && !secondTrial
}

// suspectNext reports whether a suspect waits for all others to end.
func (s *scheduler) suspectNext() bool {
	s.skipIdle()
	return s.ready.len() > 0 && s.ready.front().items[0].suspect()
}

func (s *scheduler) leave(taken slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if taken.trial {
		s.breaker.trial = false
	}
	if s.inFlight == 0 || taken.trial {
		s.work.Broadcast()
	}
	s.slots.Broadcast()
}
