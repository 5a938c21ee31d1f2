package schedule

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// Scheduler decides which messages are handled when. Everything in it is under one lock, which is
// never held during a call of anything else.
//
// A key with something to do stands once in the line ready. A worker takes the first key, or for a
// batch several, and the first messages of each; a key that has more goes to the end of the line,
// so that a busy key delays the others by one turn at most.
type Scheduler struct {
	mu    sync.Mutex
	work  sync.Cond // for workers: something may be ready
	slots sync.Cond // for calls of handlers beside the workers
	room  sync.Cond // for the goroutine that fetches

	partitions map[TopicPartition]*Partition
	member     string                   // that the partitions were assigned to
	next       map[TopicPartition]int64 // the offset that the client reads next, if it is known
	ready      deque[*queue]
	inFlight   int  // jobs and slots
	alone      bool // a suspect is in flight: nothing else is
	draining   bool

	holding map[heldKey]bool // keys whose messages wait until the parked ones before them are handled

	paused map[*Partition]struct{} // that are not fetched from
	held   int
	bytes  int64

	breaker breaker
	counts  Counts

	// incarnation is the one of the database in which messages are decided. rewinding is whether it
	// has ended, so that nothing begins until what may be forgotten is read once more; stopPoll ends
	// the poll under way.
	incarnation inboxloop.Incarnation
	rewinding   bool
	stopPoll    context.CancelFunc
	rewinds     int // since the last flush

	turn int64 // counts jobs and slots, as they begin
	good int64 // the turn of the last one of those in which a message was processed

	options Options
}

// Options are the bounds and the surroundings of a Scheduler. All but After are required.
type Options struct {
	// MaxRecords and MaxBytes bound what is held.
	MaxRecords int
	MaxBytes   int64

	// FromStart is whether a group without an offset begins at the start of the log.
	FromStart bool

	// Handling returns the context of handlers that decide messages in an incarnation of the
	// database.
	Handling func(inboxloop.Incarnation) context.Context

	// After calls a function once a time has passed, as time.AfterFunc does, which it defaults to.
	After func(time.Duration, func()) (stop func() bool)
}

// New returns a scheduler without partitions.
func New(options Options) *Scheduler {
	if options.After == nil {
		options.After = func(d time.Duration, call func()) func() bool { return time.AfterFunc(d, call).Stop }
	}
	s := &Scheduler{
		partitions: map[TopicPartition]*Partition{}, next: map[TopicPartition]int64{},
		holding: map[heldKey]bool{}, paused: map[*Partition]struct{}{}, options: options,
	}
	s.work.L, s.slots.L, s.room.L = &s.mu, &s.mu, &s.mu
	return s
}

// Start notes the incarnation of the database, before anything is assigned.
func (s *Scheduler) Start(now inboxloop.Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.incarnation = now
}

// Job is what a worker does at once: one message, or a batch.
type Job struct {
	Items  []*Item
	queues []*queue // of each item
	alone  bool
	trial  bool // of whether an outage is over
}

// Context returns the context of a job, which ends with the first of its partitions that may not go
// on.
func (s *Scheduler) Context(j *Job) (context.Context, context.CancelFunc) {
	first := j.queues[0].part
	several := false
	for _, q := range j.queues {
		several = several || q.part != first
	}
	if !several {
		return first.handling, func() {}
	}
	ctx, cancel := context.WithCancel(s.options.Handling(first.incarnation))
	var stops []func() bool
	watched := map[*Partition]bool{}
	for _, q := range j.queues {
		if !watched[q.part] {
			watched[q.part] = true
			stops = append(stops, context.AfterFunc(q.part.handling, cancel))
		}
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// wake lets everybody look again, after a change that concerns more than one key.
func (s *Scheduler) wake() {
	s.work.Broadcast()
	s.slots.Broadcast()
	s.room.Broadcast()
}

// Release hands messages to the queues of their keys, in order.
func (s *Scheduler) Release(p *Partition, items []*Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range items {
		if p.closed { // while they were looked up
			s.letGo(p, i)
			continue
		}
		q := p.queue(i.Message)
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
func (s *Scheduler) enqueue(q *queue, front bool) {
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

// Take waits for something to do, up to most messages. It returns nil once nothing more begins.
func (s *Scheduler) Take(most int) *Job {
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
func (s *Scheduler) pick(most int) *Job {
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
		j := &Job{alone: first.suspect()}
		j.add(q, 1)
		return j
	}
	return s.gather(most)
}

// gather fills a batch: first an equal share of each key in the line, then what room is left.
func (s *Scheduler) gather(most int) *Job {
	j := &Job{}
	share := max(1, most/s.ready.len())
	var keys []*queue
	for len(j.Items) < most && s.ready.len() > 0 {
		q := s.ready.front()
		if s.isIdle(q) {
			s.popIdle()
			continue
		}
		if q.items[0].single() {
			break
		}
		s.ready.popFront()
		j.add(q, min(share, most-len(j.Items)))
		keys = append(keys, q)
	}
	for _, q := range keys {
		if len(j.Items) == most {
			break
		}
		j.add(q, most-len(j.Items))
	}
	return j
}

// add takes up to n more messages of a key into the job, up to one that may not share a
// transaction; such a one is taken only as the first.
func (j *Job) add(q *queue, n int) {
	for ; n > 0 && q.taken < len(q.items); n-- {
		i := q.items[q.taken]
		if q.taken > 0 && i.single() {
			break
		}
		j.Items, j.queues = append(j.Items, i), append(j.queues, q)
		q.taken++
	}
	q.state = running
}

// skipIdle drops keys from the front of the line of which nothing may begin.
func (s *Scheduler) skipIdle() {
	for s.ready.len() > 0 && s.isIdle(s.ready.front()) {
		s.popIdle()
	}
}

// isIdle reports whether a key in the line is of a partition that is gone, or is held.
func (s *Scheduler) isIdle(q *queue) bool { return q.part.closed || s.isHeld(q) }

// popIdle takes the key at the front out of the line.
func (s *Scheduler) popIdle() {
	if q := s.ready.popFront(); !q.part.closed {
		q.state = waiting
	}
}

func (s *Scheduler) begin(j *Job) {
	s.inFlight++
	s.alone, j.trial = j.alone, s.breaker.begin()
	s.turn++
	for n, q := range j.queues {
		q.part.inUse++
		j.Items[n].Turn = s.turn
	}
}

// Decision is what became of one message of a job.
type Decision struct {
	// Decided messages leave, with their result.
	Decided bool
	Result  inbox.Result
	// Wait is how long the key of one that failed waits.
	Wait time.Duration
	// Front sends the key to the front of the line: its message was not tried.
	Front bool
}

// Finish takes the decisions on the messages of a job, in their order. It reports whether there is
// a partition to resume; see Balance.
func (s *Scheduler) Finish(j *Job, decisions []Decision) (resume bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	if j.alone {
		s.alone = false
	}
	if j.trial {
		s.breaker.trial = false
	}
	for n, i := range j.Items {
		q, v := j.queues[n], decisions[n]
		q.part.inUse--
		switch {
		case v.Decided:
			s.decide(q.part, i, v.Result)
			q.drop(i)
		case q.part.closed:
			s.letGo(q.part, i)
			q.drop(i)
		default:
			q.wait, q.front = max(q.wait, v.Wait), q.front || v.Front
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
func (s *Scheduler) decide(p *Partition, i *Item, result inbox.Result) {
	p.done(i.place)
	p.resulted(result)
	s.letGo(p, i)
	s.counts.count(result)
}

// putBack says what a key does next whose messages come back from a job.
func (s *Scheduler) putBack(q *queue) {
	p, wait, front := q.part, q.wait, q.front
	q.taken, q.wait, q.front, q.state = 0, 0, false, idle
	switch {
	case p.closed:
		p.noteDrained()
	case len(q.items) == 0:
		p.forget(q)
	case wait > 0:
		q.state = waiting
		if q.failing.IsZero() {
			q.failing = time.Now()
		}
		q.stopWait = s.options.After(wait, func() { s.endWait(q) })
	default:
		s.enqueue(q, front)
	}
}

func (s *Scheduler) endWait(q *queue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.state == waiting && !q.part.closed {
		s.enqueue(q, false)
	}
}

// drop takes a message out of its key.
func (q *queue) drop(i *Item) {
	if q.items[0] == i { // nearly always
		q.failing = time.Time{}
		q.items[0] = nil
		q.items = q.items[1:]
		return
	}
	q.items = slices.DeleteFunc(q.items, func(other *Item) bool { return other == i })
}

// Close lets nothing of a partition begin any more, and lets go of what is not in flight.
// The partition is Drained once nothing is.
func (s *Scheduler) Close(p *Partition, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closePartition(p, lost)
}

// closePartition is closePartition under the lock.
func (s *Scheduler) closePartition(p *Partition, lost bool) {
	if p.closed {
		return // the shutdown and a callback may both come here
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
}

// Drain lets nothing more begin.
func (s *Scheduler) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for _, p := range s.partitions {
		p.stopIntake()
	}
	s.wake()
}
