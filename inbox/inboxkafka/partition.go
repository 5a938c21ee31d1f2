package inboxkafka

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// topicPartition names a partition.
type topicPartition struct {
	topic  string
	number int32
}

// item is one record that is held: waiting, or in flight.
type item struct {
	message inbox.Message
	offset  int64
	epoch   int32 // of the leader that wrote it
	place   int64 // in the tracker of its partition
	bytes   int64

	// marker is a record that only ends a transaction. It is done once its turn comes on the way in.
	marker bool

	// unidentified is why the record has no identity; it is parked when its turn comes.
	unidentified error

	// careful is a record that the process before may have handled when it crashed, and starts how
	// often its handler was started and did not end. started is whether this process has recorded a
	// start.
	careful bool
	starts  int
	started bool

	// turn is when its job began, raised whether a handler returned an error in that, and accused
	// when it said last that something is unavailable; see scheduler.accuse.
	turn    int64
	raised  bool
	accused int64

	// attempts and spent are how often it failed, and how long handling and waiting took. lone is
	// whether it is tried alone, since it failed. parking is set once it is to be parked, for as long
	// as that does not succeed.
	attempts int
	spent    time.Duration
	lone     bool
	parking  *parking
}

// parking is what a message is to be parked for.
type parking struct {
	cause    inbox.Cause
	attempts int
	why      error
}

// suspect reports whether the process may end because of it.
func (i *item) suspect() bool { return i.careful && i.starts > 0 && i.parking == nil }

// single reports whether it may not share a transaction with others.
func (i *item) single() bool {
	return i.lone || i.unidentified != nil || i.parking != nil || i.suspect()
}

// queueState is what the queue of a key does.
type queueState int

const (
	idle    queueState = iota // nothing to do, or all of it is in flight
	ready                     // in the line of those that have something to do
	running                   // its first messages are in flight
	waiting                   // its first message failed, and a timer runs
)

// keyQueue holds the messages of one key of one partition in order. At most one job works on it, on
// its first messages, and they stay in it until they are decided. A message without a key has its
// own queue.
type keyQueue struct {
	part     *partition
	key      string
	keyed    bool
	items    []*item
	taken    int // the first ones, in flight
	state    queueState
	stopWait func() bool // where a timer runs

	// wait and front are gathered from the decisions of a job.
	wait  time.Duration
	front bool
}

// partition is one assigned partition, from its assignment to its revocation. A partition that
// comes back is a new one, so that nothing of the old one can count for it. Its fields belong to
// the scheduler's lock, unless they never change.
type partition struct {
	topicPartition

	// handling ends when what is in flight may not go on; intake when no more may begin.
	handling   context.Context
	stop       context.CancelFunc
	intake     context.Context
	stopIntake context.CancelFunc
	intakeDone chan struct{}
	arrived    chan struct{} // holds a token where incoming has grown

	// incarnation is the one of the database in which its messages are decided. from is where the
	// client begins once more if another one begins: the first position that no flush has spoken for;
	// entered is whether there is one.
	incarnation inboxloop.Incarnation
	from        position
	entered     bool

	tracker  tracker
	incoming []*item
	queues   map[*keyQueue]struct{}
	byKey    map[string]*keyQueue

	closed  bool          // revoked or lost: nothing of it begins any more
	lost    bool          // its offsets are no longer ours
	inUse   int           // messages in flight
	drained chan struct{} // ends once the partition is closed and inUse is 0

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

	moved     time.Time // when its watermark did so last, or became one
	committed position
	start     int64 // where its log begins, and
	stable    int64 // its last stable offset, when they were heard of last; -1 before that
}

func newPartition(parent context.Context, at topicPartition) *partition {
	p := &partition{
		topicPartition: at, arrived: make(chan struct{}, 1), intakeDone: make(chan struct{}), drained: make(chan struct{}),
		queues: map[*keyQueue]struct{}{}, byKey: map[string]*keyQueue{},
		checking: true, committed: position{offset: -1}, start: -1, stable: -1,
	}
	p.handling, p.stop = context.WithCancel(parent)
	p.intake, p.stopIntake = context.WithCancel(p.handling)
	return p
}

// done notes that the record at a place is decided.
func (p *partition) done(place int64) {
	before := p.tracker.first
	p.tracker.done(place)
	if p.tracker.first != before {
		p.moved = time.Now()
	}
}

// noteDrained ends drained if nothing of a closed partition is in flight.
func (p *partition) noteDrained() {
	if !p.closed || p.inUse > 0 {
		return
	}
	select {
	case <-p.drained: // ended before
	default:
		close(p.drained)
	}
}

// queue returns the queue that a message belongs to.
func (p *partition) queue(m inbox.Message) *keyQueue {
	if m.Key == nil {
		q := &keyQueue{part: p}
		p.queues[q] = struct{}{}
		return q
	}
	q := p.byKey[string(m.Key)]
	if q == nil {
		q = &keyQueue{part: p, key: string(m.Key), keyed: true}
		p.byKey[q.key] = q
		p.queues[q] = struct{}{}
	}
	return q
}

// forget takes a queue out that holds nothing.
func (p *partition) forget(q *keyQueue) {
	delete(p.queues, q)
	if q.keyed {
		delete(p.byKey, q.key)
	}
}

// checkWindow is how many results say whether this is a replay.
const checkWindow = 128

// resulted counts a result. If half of them are duplicates, looking them up before is cheaper than
// a transaction each.
func (p *partition) resulted(result inbox.Result) {
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
