package demo

import (
	"fmt"
	"sync"

	"github.com/google/uuid"
)

// event is what a message says of itself: it is the version-th event of its account.
type event struct {
	account string
	version int64
}

// entry is an event with the identity of its message.
type entry struct {
	id uuid.UUID
	event
}

// ledger holds what the writers did and what the consumer read, and compares the two. It is safe
// for concurrent use.
//
// A message may be read before its writer has noted the commit, so that what is lost or invented is
// known at the end only; a duplicate and an inversion show at once.
type ledger struct {
	mu         sync.Mutex
	committed  map[uuid.UUID]event
	rolledBack map[uuid.UUID]struct{}
	read       map[uuid.UUID]event
	highest    map[string]int64 // of the versions read, by account

	missing    int // committed and not read yet
	records    int // read, duplicates and unreadable ones too
	unreadable int
	duplicated int
	reordered  int
	examples   map[fault][]string

	changed chan struct{} // closed and replaced by each announcement
}

// fault is a way in which what was read differs from what was committed.
type fault string

const (
	lost       fault = "lost"
	duplicated fault = "duplicated"
	reordered  fault = "reordered"
	invented   fault = "invented"
)

// mostExamples bounds how many messages are named for each fault.
const mostExamples = 3

func newLedger() *ledger {
	return &ledger{
		committed:  make(map[uuid.UUID]event),
		rolledBack: make(map[uuid.UUID]struct{}),
		read:       make(map[uuid.UUID]event),
		highest:    make(map[string]int64),
		examples:   make(map[fault][]string),
		changed:    make(chan struct{}),
	}
}

// commit notes messages whose transaction has committed.
func (l *ledger) commit(entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.committed[e.id] = e.event
		if _, ok := l.read[e.id]; !ok {
			l.missing++
		}
	}
	l.announce()
}

// rollBack notes messages whose transaction, or savepoint, was rolled back.
func (l *ledger) rollBack(entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.rolledBack[e.id] = struct{}{}
	}
	l.announce()
}

// arrive notes messages that were read, in the order of their partition.
func (l *ledger) arrive(entries []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.arriveOne(e)
	}
	l.announce()
}

func (l *ledger) arriveOne(e entry) {
	l.records++
	if _, again := l.read[e.id]; again {
		l.duplicated++
		l.example(duplicated, "message %s (version %d of %s) was read again", e.id, e.version, e.account)
		return
	}
	l.read[e.id] = e.event
	if _, ok := l.committed[e.id]; ok {
		l.missing--
	}
	// Every version that is jumped over either comes later, and counts then, or never, and is lost.
	if highest := l.highest[e.account]; e.version < highest {
		l.reordered++
		l.example(reordered, "message %s (version %d of %s) was read after version %d", e.id, e.version, e.account, highest)
		return
	}
	l.highest[e.account] = e.version
}

// arriveUnreadable notes a record that no writer can have written.
func (l *ledger) arriveUnreadable(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records++
	l.unreadable++
	l.example(invented, "%v", why)
	l.announce()
}

// announce wakes everybody who waits for a change; l.mu is held.
func (l *ledger) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *ledger) example(f fault, format string, args ...any) {
	if len(l.examples[f]) < mostExamples {
		l.examples[f] = append(l.examples[f], fmt.Sprintf(format, args...))
	}
}

// standing is the ledger at a moment.
type standing struct {
	written, rolledBack int // messages committed, and rolled back
	published           int // distinct messages read
	records             int // records read
	missing             int // committed and not read yet
	duplicated          int
	reordered           int
}

// now returns where things stand, and a channel that is closed at the next change.
func (l *ledger) now() (standing, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return standing{
		written: len(l.committed), rolledBack: len(l.rolledBack), published: len(l.read), records: l.records,
		missing: l.missing, duplicated: l.duplicated, reordered: l.reordered,
	}, l.changed
}

// audit compares both sides. It is called once, when nobody writes or reads any more.
func (l *ledger) audit() (s standing, lostCount, inventedCount int, examples map[fault][]string) {
	s, _ = l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.committed {
		if _, ok := l.read[id]; !ok {
			lostCount++
			l.example(lost, "message %s (version %d of %s) was committed and never read", id, e.version, e.account)
		}
	}
	inventedCount = l.unreadable
	for id, e := range l.read {
		want, ok := l.committed[id]
		if ok && want == e {
			continue
		}
		inventedCount++
		_, rolledBack := l.rolledBack[id]
		switch {
		case ok:
			l.example(invented, "message %s was committed as version %d of %s and read as version %d of %s",
				id, want.version, want.account, e.version, e.account)
		case rolledBack:
			l.example(invented, "message %s (version %d of %s) was read, and its transaction was rolled back", id, e.version, e.account)
		default:
			l.example(invented, "message %s (version %d of %s) was read, and nobody wrote it", id, e.version, e.account)
		}
	}
	return s, lostCount, inventedCount, l.examples
}
