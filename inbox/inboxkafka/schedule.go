package inboxkafka

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// scheduler decides which messages are handled when. Everything in it is under one lock, which is
// never held during a call of anything else.
//
// A key with something to do stands once in the line ready. A worker takes the first key, or for a
// batch several, and the first messages of each; a key that has more goes to the end of the line,
// so that a busy key delays the others by one turn at most.
type scheduler struct {
	mu    sync.Mutex
	work  sync.Cond // for workers: something may be ready
	slots sync.Cond // for calls of handlers beside the workers
	room  sync.Cond // for the goroutine that fetches

	partitions map[topicPartition]*partition
	member     string                   // that the partitions were assigned to
	next       map[topicPartition]int64 // the offset that the client reads next, if it is known
	ready      deque[*keyQueue]
	inFlight   int  // jobs and slots
	alone      bool // a suspect is in flight: nothing else is
	draining   bool

	holding map[heldKey]bool // keys whose messages wait until the parked ones before them are handled

	paused   map[*partition]struct{} // that are not fetched from
	held     int
	bytes    int64
	maxHeld  int
	maxBytes int64

	breaker breaker
	stats   Stats

	// incarnation is the one of the database in which messages are decided. rewinding is whether it
	// has ended, so that nothing begins until what may be forgotten is read once more; stopPoll ends
	// the poll under way.
	incarnation inboxloop.Incarnation
	rewinding   bool
	stopPoll    context.CancelFunc
	rewinds     int // since the last flush

	fromStart bool // a group without an offset begins at the start of the log

	turn int64 // counts jobs and slots, as they begin
	good int64 // the turn of the last one of those in which a message was processed

	after func(time.Duration, func()) (stop func() bool)
}

func after(d time.Duration, call func()) (stop func() bool) { return time.AfterFunc(d, call).Stop }

func newScheduler(maxHeld int, maxBytes int64) *scheduler {
	s := &scheduler{
		partitions: map[topicPartition]*partition{}, next: map[topicPartition]int64{},
		holding: map[heldKey]bool{}, paused: map[*partition]struct{}{},
		maxHeld: maxHeld, maxBytes: maxBytes, after: after,
	}
	s.work.L, s.slots.L, s.room.L = &s.mu, &s.mu, &s.mu
	return s
}

// job is what a worker does at once: one message, or a batch.
type job struct {
	items  []*item
	queues []*keyQueue // of each item
	alone  bool
	trial  bool // of whether an outage is over
}

// wake lets everybody look again, after a change that concerns more than one key.
func (s *scheduler) wake() {
	s.work.Broadcast()
	s.slots.Broadcast()
	s.room.Broadcast()
}

// release hands messages to the queues of their keys, in order.
func (s *scheduler) release(p *partition, items []*item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if p.closed { // while they were looked up
			s.letGo(p, i)
			continue
		}
		q := p.queue(i.message)
		q.items = append(q.items, i)
		if q.state == idle {
			s.enqueue(q, false)
		}
	}
	if p.closed {
		s.room.Signal()
	}
}

// enqueue puts a key into the line.
func (s *scheduler) enqueue(q *keyQueue, front bool) {
	if s.isHeld(q) {
		q.state = waiting
		return
	}
	q.state = ready
	if front {
		s.ready.pushFront(q)
	} else {
		s.ready.pushBack(q)
	}
	s.work.Signal()
}

// take waits for something to do, up to most messages. It returns nil once nothing more begins.
func (s *scheduler) take(most int) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.draining {
		if j := s.pick(most); j != nil {
			s.begin(j)
			return j
		}
		s.work.Wait()
	}
	return nil
}

// pick returns the next job, or nil if nothing may begin now.
func (s *scheduler) pick(most int) *job {
	if s.alone || s.rewinding || s.breaker.blocks() {
		return nil
	}
	s.skipIdle()
	if s.ready.len() == 0 {
		return nil
	}
	q := s.ready.front()
	if first := q.items[0]; first.single() {
		// The key at the front goes first: while a suspect waits there for the others to end, nothing
		// else begins.
		if first.suspect() && s.inFlight > 0 {
			return nil
		}
		s.ready.popFront()
		j := &job{alone: first.suspect()}
		j.add(q, 1)
		return j
	}
	return s.gather(most)
}

// gather fills a batch: first an equal share of each key in the line, then what room is left.
func (s *scheduler) gather(most int) *job {
	j := &job{}
	share := max(1, most/s.ready.len())
	var keys []*keyQueue
	for len(j.items) < most && s.ready.len() > 0 {
		q := s.ready.front()
		if s.isIdle(q) {
			s.popIdle()
			continue
		}
		if q.items[0].single() {
			break
		}
		s.ready.popFront()
		j.add(q, min(share, most-len(j.items)))
		keys = append(keys, q)
	}
	for _, q := range keys {
		if len(j.items) == most {
			break
		}
		j.add(q, most-len(j.items))
	}
	return j
}

// add takes up to n more messages of a key into the job, up to one that may not share a
// transaction; such a one is taken only as the first.
func (j *job) add(q *keyQueue, n int) {
	for ; n > 0 && q.taken < len(q.items); n-- {
		i := q.items[q.taken]
		if q.taken > 0 && i.single() {
			break
		}
		j.items, j.queues = append(j.items, i), append(j.queues, q)
		q.taken++
	}
	q.state = running
}

// skipIdle drops keys from the front of the line of which nothing may begin.
func (s *scheduler) skipIdle() {
	for s.ready.len() > 0 && s.isIdle(s.ready.front()) {
		s.popIdle()
	}
}

// isIdle reports whether a key in the line is of a partition that is gone, or is held.
func (s *scheduler) isIdle(q *keyQueue) bool { return q.part.closed || s.isHeld(q) }

// popIdle takes the key at the front out of the line.
func (s *scheduler) popIdle() {
	if q := s.ready.popFront(); !q.part.closed {
		q.state = waiting
	}
}

func (s *scheduler) begin(j *job) {
	s.inFlight++
	s.alone, j.trial = j.alone, s.breaker.begin()
	s.turn++
	for n, q := range j.queues {
		q.part.inUse++
		j.items[n].turn = s.turn
	}
}

// decision is what became of one message of a job.
type decision struct {
	// decided messages leave, with their result.
	decided bool
	result  inbox.Result
	// wait is how long the key of one that failed waits.
	wait time.Duration
	// front sends the key to the front of the line: its message was not tried.
	front bool
}

// finish takes the decisions on the messages of a job, in their order. It reports whether there is
// a partition to resume; see Consumer.balance.
func (s *scheduler) finish(j *job, decisions []decision) (resume bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if j.alone {
		s.alone = false
	}
	if j.trial {
		s.breaker.trial = false
	}
	for n, i := range j.items {
		q, v := j.queues[n], decisions[n]
		q.part.inUse--
		switch {
		case v.decided:
			s.decide(q.part, i, v.result)
			q.drop(i)
		case q.part.closed:
			s.letGo(q.part, i)
			q.drop(i)
		default:
			q.wait, q.front = max(q.wait, v.wait), q.front || v.front
		}
	}
	for _, q := range j.queues {
		if q.state == running {
			s.putBack(q)
		}
	}
	if s.inFlight == 0 || j.alone || j.trial {
		s.work.Broadcast()
	}
	s.slots.Broadcast()
	s.room.Signal()
	return s.resumable()
}

// decide takes a message out that is done.
func (s *scheduler) decide(p *partition, i *item, result inbox.Result) {
	p.done(i.place)
	p.resulted(result)
	s.letGo(p, i)
	s.stats.count(result)
}

// putBack says what a key does next whose messages come back from a job.
func (s *scheduler) putBack(q *keyQueue) {
	p, wait, front := q.part, q.wait, q.front
	q.taken, q.wait, q.front, q.state = 0, 0, false, idle
	switch {
	case p.closed:
		p.noteDrained()
	case len(q.items) == 0:
		p.forget(q)
	case wait > 0:
		q.state = waiting
		q.stopWait = s.after(wait, func() { s.endWait(q) })
	default:
		s.enqueue(q, front)
	}
}

func (s *scheduler) endWait(q *keyQueue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.state == waiting && !q.part.closed {
		s.enqueue(q, false)
	}
}

// drop takes a message out of its key.
func (q *keyQueue) drop(i *item) {
	if q.items[0] == i { // nearly always
		q.items[0] = nil
		q.items = q.items[1:]
		return
	}
	q.items = slices.DeleteFunc(q.items, func(other *item) bool { return other == i })
}

// closePartition lets nothing of a partition begin any more, and lets go of what is not in flight.
// The channel is closed once nothing is.
func (s *scheduler) closePartition(p *partition, lost bool) (drained <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close(p, lost)
}

// close is closePartition under the lock.
func (s *scheduler) close(p *partition, lost bool) (drained <-chan struct{}) {
	if p.closed {
		return p.drained // the shutdown and a callback may both come here
	}
	p.stopIntake()
	p.closed, p.lost = true, lost
	for _, i := range p.incoming {
		s.letGo(p, i)
	}
	p.incoming = nil
	for q := range p.queues {
		if q.stopWait != nil {
			q.stopWait()
		}
		for _, i := range q.items[q.taken:] {
			s.letGo(p, i)
		}
		q.items = q.items[:q.taken]
	}
	p.noteDrained()
	s.wake()
	return p.drained
}

// drain lets nothing more begin.
func (s *scheduler) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, p := range s.partitions {
		p.stopIntake()
	}
	s.wake()
}
