package ledger

import (
	"fmt"
	"sync"
)

// Event is what a message says of itself: it is the Version-th event of its aggregate.
type Event struct {
	Aggregate string
	Version   int64
}

// Entry is an event with the identity of its message.
type Entry[ID comparable] struct {
	ID ID
	Event
}

// Ledger holds what writers committed and what a consumer read or did. It is safe for concurrent
// use.
//
// A message may arrive before its writer has noted the commit, so what is lost or invented is known
// at the end only; a duplicate and an inversion show at once.
type Ledger[ID comparable] struct {
	mu         sync.Mutex
	committed  map[ID]Event
	rolledBack map[ID]struct{}
	read       map[ID]Event
	highest    map[string]int64 // of the versions read, by account

	missing    int // committed and not read yet
	records    int // read, duplicates and unreadable ones too
	unreadable int
	duplicated int
	reordered  int
	examples   map[Fault][]string

	changed chan struct{} // closed and replaced by each announcement
}

// Fault is a way in which what arrived differs from what was committed.
type Fault string

// The faults.
const (
	Lost       Fault = "lost"
	Duplicated Fault = "duplicated"
	Reordered  Fault = "reordered"
	Invented   Fault = "invented"
)

// mostExamples bounds how many messages are named for each fault.
const mostExamples = 3

// New returns an empty ledger of messages with such identities.
func New[ID comparable]() *Ledger[ID] {
	return &Ledger[ID]{
		committed:  make(map[ID]Event),
		rolledBack: make(map[ID]struct{}),
		read:       make(map[ID]Event),
		highest:    make(map[string]int64),
		examples:   make(map[Fault][]string),
		changed:    make(chan struct{}),
	}
}

// Commit notes messages whose transaction has committed.
func (l *Ledger[ID]) Commit(entries []Entry[ID]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.committed[e.ID] = e.Event
		if _, ok := l.read[e.ID]; !ok {
			l.missing++
		}
	}
	l.announce()
}

// RollBack notes messages whose transaction, or savepoint, was rolled back.
func (l *Ledger[ID]) RollBack(entries []Entry[ID]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.rolledBack[e.ID] = struct{}{}
	}
	l.announce()
}

// Arrive notes messages that were read, in the order of their partition.
func (l *Ledger[ID]) Arrive(entries []Entry[ID]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		l.arriveOne(e)
	}
	l.announce()
}

func (l *Ledger[ID]) arriveOne(e Entry[ID]) {
	l.records++
	if _, again := l.read[e.ID]; again {
		l.duplicated++
		l.example(Duplicated, "message %v (version %d of %s) was read again", e.ID, e.Version, e.Aggregate)
		return
	}
	l.read[e.ID] = e.Event
	if _, ok := l.committed[e.ID]; ok {
		l.missing--
	}
	// Every version that is jumped over either comes later, and counts then, or never, and is lost.
	if highest := l.highest[e.Aggregate]; e.Version < highest {
		l.reordered++
		l.example(Reordered, "message %v (version %d of %s) was read after version %d", e.ID, e.Version, e.Aggregate, highest)
		return
	}
	l.highest[e.Aggregate] = e.Version
}

// ArriveUnreadable notes a record that no writer can have written.
func (l *Ledger[ID]) ArriveUnreadable(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records++
	l.unreadable++
	l.example(Invented, "%v", why)
	l.announce()
}

// announce wakes everybody who waits for a change; l.mu is held.
func (l *Ledger[ID]) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *Ledger[ID]) example(f Fault, format string, args ...any) {
	if len(l.examples[f]) < mostExamples {
		l.examples[f] = append(l.examples[f], fmt.Sprintf(format, args...))
	}
}

// Standing is the ledger at a moment.
type Standing struct {
	Written, RolledBack int // messages committed, and rolled back
	Published           int // distinct messages that arrived
	Records             int // all that arrived, duplicates and unreadable ones too
	Missing             int // committed and not there yet
	Duplicated          int
	Reordered           int
}

// Now returns where things stand, and a channel that is closed at the next change.
func (l *Ledger[ID]) Now() (Standing, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Standing{
		Written: len(l.committed), RolledBack: len(l.rolledBack), Published: len(l.read), Records: l.records,
		Missing: l.missing, Duplicated: l.duplicated, Reordered: l.reordered,
	}, l.changed
}

// Verdict is how what arrived differs from what was committed.
type Verdict struct {
	Standing
	Lost, Invented int
	// Examples name the first few messages of each fault.
	Examples map[Fault][]string
}

// Faults is how many there are of all kinds.
func (v Verdict) Faults() int { return v.Lost + v.Duplicated + v.Reordered + v.Invented }

// Audit compares both sides. It is called once, when all writing and reading has ended.
func (l *Ledger[ID]) Audit() Verdict {
	var v Verdict
	v.Standing, _ = l.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, e := range l.committed {
		if _, ok := l.read[id]; !ok {
			v.Lost++
			l.example(Lost, "message %v (version %d of %s) was committed and never read", id, e.Version, e.Aggregate)
		}
	}
	v.Invented = l.unreadable
	for id, e := range l.read {
		want, ok := l.committed[id]
		if ok && want == e {
			continue
		}
		v.Invented++
		_, rolledBack := l.rolledBack[id]
		switch {
		case ok:
			l.example(Invented, "message %v was committed as version %d of %s and read as version %d of %s",
				id, want.Version, want.Aggregate, e.Version, e.Aggregate)
		case rolledBack:
			l.example(Invented, "message %v (version %d of %s) was read, and its transaction was rolled back", id, e.Version, e.Aggregate)
		default:
			l.example(Invented, "message %v (version %d of %s) was read, and never written", id, e.Version, e.Aggregate)
		}
	}
	v.Examples = l.examples
	return v
}
