package schedule

import "context"

// Slot is a place in flight beside the workers.
type Slot struct {
	Turn  int64
	trial bool
}

// Enter waits for a slot to call a handler beside the workers. It returns false once nothing more
// begins, or ctx has ended. last is the slot that the caller had before: of two trials in a row the
// second one is for another caller, if one waits.
func (s *Scheduler) Enter(ctx context.Context, last Slot) (taken Slot, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.wakeSlotsAfter(ctx)()
	for !s.draining && ctx.Err() == nil {
		if s.mayEnter(last) {
			s.inFlight++
			s.turn++
			return Slot{s.turn, s.breaker.begin()}, true
		}
		s.slots.Wait()
	}
	return Slot{}, false
}

// wakeSlotsAfter wakes those that wait for slots once ctx ends.
func (s *Scheduler) wakeSlotsAfter(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slots.Broadcast()
	})
}

// mayEnter reports whether a slot may begin now whose caller had the last one.
func (s *Scheduler) mayEnter(last Slot) bool {
	secondTrial := s.breaker.state == halfOpen && last.Turn > 0 && s.turn == last.Turn && s.ready.len() > 0
	return !s.alone && !s.breaker.blocks() && !s.suspectNext() && !secondTrial
}

// suspectNext reports whether a suspect waits for all others to end.
func (s *Scheduler) suspectNext() bool {
	s.skipIdle()
	return s.ready.len() > 0 && s.ready.front().items[0].suspect()
}

// Leave gives a slot back.
func (s *Scheduler) Leave(taken Slot) {
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
