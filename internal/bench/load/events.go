package load

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Events are those of one topic, by their number: when each was inserted and when it was read. One
// goroutine may read while others insert.
type Events struct {
	// Began is when the INSERT was sent, Committed when its COMMIT had returned, Arrived when a
	// consumer had read the event for the first time. Zero: not yet, or never.
	Began, Committed, Arrived []time.Time
	// IDs are those of the rows that were inserted at a steady rate; 0 otherwise.
	IDs []int64

	// Doubled, Reordered and Invented count records: those read again, those read after a later event
	// of their aggregate, and those that were never written.
	Doubled, Reordered, Invented int

	committed, read atomic.Int64  // how many events
	newest          atomic.Int64  // number of the newest event that was read, and 1 more
	sent            atomic.Int64  // number of the newest event that was committed, and 1 more
	highest         map[int64]int // number of the latest event read, by aggregate
}

// NewEvents makes room for n events.
func NewEvents(n int) *Events {
	return &Events{
		Began: make([]time.Time, n), Committed: make([]time.Time, n), Arrived: make([]time.Time, n),
		IDs:     make([]int64, n),
		highest: map[int64]int{},
	}
}

// Inserted notes that the events from number first to before end are committed, such as those of a
// backlog.
func (e *Events) Inserted(first, end int) {
	now := time.Now()
	for i := first; i < end; i++ {
		e.Began[i], e.Committed[i] = now, now
	}
	e.committed.Add(int64(end - first))
	raise(&e.sent, end)
}

// raise makes of a number the higher one.
func raise(number *atomic.Int64, to int) {
	for now := number.Load(); now < int64(to); now = number.Load() {
		if number.CompareAndSwap(now, int64(to)) {
			return
		}
	}
}

// Sent notes that an event was sent at a moment and is committed by now.
func (e *Events) Sent(number int, at time.Time) {
	e.Began[number], e.Committed[number] = at, time.Now()
	e.committed.Add(1)
	raise(&e.sent, number+1)
}

// note notes one record that was read.
func (e *Events) note(record *kgo.Record, now time.Time) {
	aggregate, err := strconv.ParseInt(string(record.Key), 10, 64)
	if err != nil || len(record.Value) < 8 {
		e.Invented++
		return
	}
	number := binary.BigEndian.Uint64(record.Value)
	if number >= uint64(len(e.Arrived)) {
		e.Invented++
		return
	}
	if !e.Arrived[number].IsZero() {
		e.Doubled++
		return
	}
	e.Arrived[number] = now
	e.read.Add(1)
	raise(&e.newest, int(number)+1)
	if highest, seen := e.highest[aggregate]; seen && highest > int(number) {
		e.Reordered++
		return
	}
	e.highest[aggregate] = int(number)
}

// Lost is how many events were committed and not read.
func (e *Events) Lost() (n int) {
	for i := range e.Arrived {
		if !e.Committed[i].IsZero() && e.Arrived[i].IsZero() {
			n++
		}
	}
	return n
}

// Counts are how many events are committed, and how many distinct ones were read. Any goroutine may
// ask.
func (e *Events) Counts() (committed, read int) { return int(e.committed.Load()), int(e.read.Load()) }

// Newest is one more than the highest number of an event that is committed, and of one that was
// read. Any goroutine may ask.
func (e *Events) Newest() (committed, read int) { return int(e.sent.Load()), int(e.newest.Load()) }

// all reports whether every event that is committed was read.
func (e *Events) all() bool { return e.read.Load() >= e.committed.Load() }

// Complete is an error unless each event was read once and in order.
func (e *Events) Complete() error {
	if lost := e.Lost(); lost+e.Doubled+e.Reordered+e.Invented > 0 {
		return fmt.Errorf("of %d events %d were read in time; %d never, %d records again, %d out of order, %d were never written",
			e.committed.Load(), e.read.Load(), lost, e.Doubled, e.Reordered, e.Invented)
	}
	return nil
}

// Since is how long each event took that was read, from the moments given, such as Began, to its
// arrival; those before number skip do not count. In ascending order.
func (e *Events) Since(from []time.Time, skip int) []time.Duration {
	all := make([]time.Duration, 0, len(e.Arrived))
	for i := skip; i < len(e.Arrived); i++ {
		if !from[i].IsZero() && !e.Arrived[i].IsZero() {
			all = append(all, e.Arrived[i].Sub(from[i]))
		}
	}
	slices.Sort(all)
	return all
}
