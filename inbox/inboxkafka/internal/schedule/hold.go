package schedule

// heldKey names a key of which nothing begins.
type heldKey struct{ topic, key string }

// isHeld reports whether messages of a key wait for the parked ones before them.
func (s *Scheduler) isHeld(q *queue) bool {
	return q.keyed && len(s.holding) > 0 && s.holding[heldKey{q.part.Topic, q.key}]
}

// HoldKey keeps new messages of a key waiting. They would be parked behind the ones that are being
// retried, as fast as these are handled or faster, and a key with much traffic would never be free
// again. What is in flight goes on.
func (s *Scheduler) HoldKey(topic string, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holding[heldKey{topic, string(key)}] = true
}

// FreeKey lets messages of a key begin again.
func (s *Scheduler) FreeKey(topic string, key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := heldKey{topic, string(key)}
	if !s.holding[at] {
		return
	}
	delete(s.holding, at)
	for _, p := range s.partitions {
		if q := p.byKey[at.key]; p.Topic == topic && !p.closed && q != nil && q.state == waiting && len(q.items) > 0 {
			s.enqueue(q, false)
		}
	}
}
