package schedule

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// TopicPartition names a partition.
type TopicPartition struct {
	Topic  string
	Number int32
}

// queueState is what the queue of a key does.
type queueState int

const (
	idle    queueState = iota // nothing to do, or all of it is in flight
	ready                     // in the line of those that have something to do
	running                   // its first messages are in flight
	waiting                   // its first message failed, and a timer runs
)

// queue holds the messages of one key of one partition in order. At most one job works on it, on
// its first messages, and they stay in it until they are decided. A message without a key has its
// own queue.
type queue struct {
	part     *Partition
	key      string
	keyed    bool
	items    []*Item
	taken    int // the first ones, in flight
	state    queueState
	stopWait func() bool // while a timer runs
	failing  time.Time   // when its first message failed first; zero if it has not

	// wait and front are gathered from the decisions of a job.
	wait  time.Duration
	front bool
}

// Partition is one assigned partition, from its assignment to its revocation. A partition that
// comes back is a new one, so that nothing of the old one can count for it. Its fields belong to
// the scheduler's lock, unless they never change.
type Partition struct {
	TopicPartition

	// Stop ends the context of what is in flight. Intake ends once nothing more may begin. Arrived
	// holds a token if Arrivals has something; IntakeDone is for the goroutine that asks it, to close
	// when it ends. Drained is closed once the partition is closed and none of its messages is in
	// flight.
	Stop       context.CancelFunc
	Intake     context.Context
	Arrived    chan struct{}
	IntakeDone chan struct{}
	Drained    chan struct{}

	handling   context.Context
	stopIntake context.CancelFunc

	// incarnation is the one of the database in which its messages are decided. from is where the
	// client begins once more if another one begins: the first position that no flush has spoken for;
	// entered is whether there is one.
	incarnation inboxloop.Incarnation
	from        Position
	entered     bool

	tracker  tracker
	incoming []*Item
	queues   map[*queue]struct{}
	byKey    map[string]*queue

	closed bool // revoked or lost: none of its messages begins any more
	lost   bool // its offsets are no longer ours
	inUse  int  // messages in flight

	held   int
	bytes  int64
	paused bool

	// careful is how many more records are to be looked at for crashes, and crashed whether there are
	// such. doubles counts duplicates among the last results; checking is whether messages are looked
	// up before they are handled.
	careful  int
	crashed  bool
	checking bool
	results  int
	doubles  int

	assigned  time.Time
	moved     time.Time // when its watermark did so last, or became one
	committed Position
	start     int64 // where its log begins, and
	stable    int64 // its last stable offset, when they were heard of last; -1 before that
	behind    int64 // what is read next, when start was seen behind it; -1 before that
}

func newPartition(parent context.Context, at TopicPartition) *Partition {
	p := &Partition{
		TopicPartition: at, Arrived: make(chan struct{}, 1), IntakeDone: make(chan struct{}), Drained: make(chan struct{}),
		queues: map[*queue]struct{}{}, byKey: map[string]*queue{},
		assigned: time.Now(), checking: true, committed: Position{Offset: -1}, start: -1, stable: -1, behind: -1,
	}
	p.handling, p.Stop = context.WithCancel(parent)
	p.Intake, p.stopIntake = context.WithCancel(p.handling)
	return p
}

// Since is where the client begins once more, if anything was entered.
func (p *Partition) Since() (from Position, known bool) { return p.from, p.entered }

// done notes that the record at a place is decided.
func (p *Partition) done(place int64) {
	before := p.tracker.first
	p.tracker.done(place)
	if p.tracker.first != before {
		p.moved = time.Now()
	}
}

// noteDrained closes Drained if nothing of a closed partition is in flight.
func (p *Partition) noteDrained() {
	if !p.closed || p.inUse > 0 {
		return
	}
	select {
	case <-p.Drained: // closed before
	default:
		close(p.Drained)
	}
}

// queue returns the queue that a message belongs to.
func (p *Partition) queue(m inbox.Message) *queue {
	if m.Key == nil {
		q := &queue{part: p}
		p.queues[q] = struct{}{}
		return q
	}
	q := p.byKey[string(m.Key)]
	if q == nil {
		q = &queue{part: p, key: string(m.Key), keyed: true}
		p.byKey[q.key] = q
		p.queues[q] = struct{}{}
	}
	return q
}

// forget takes a queue out that holds nothing.
func (p *Partition) forget(q *queue) {
	delete(p.queues, q)
	if q.keyed {
		delete(p.byKey, q.key)
	}
}

// checkWindow is how many results say whether this is a replay.
const checkWindow = 128

// resulted counts a result. If half of them are duplicates, looking them up before is cheaper than
// a transaction each.
func (p *Partition) resulted(result inbox.Result) {
	p.results++
	if result == inbox.Duplicate {
		p.doubles++
	}
	if p.results < checkWindow {
		return
	}
	if 2*p.doubles >= p.results {
		p.checking = true
	}
	p.results, p.doubles = 0, 0
}
