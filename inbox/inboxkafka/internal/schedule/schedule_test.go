package schedule

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

const someTopic = "orders"

// optionsOf holds so many records.
func optionsOf(t interface{ Context() context.Context }, records int) Options {
	return Options{
		MaxRecords: records, MaxBytes: 1 << 20,
		Handling: func(inboxloop.Incarnation) context.Context { return t.Context() },
	}
}

// world is a scheduler with two partitions, and what it should have done.
type world struct {
	t       *rapid.T
	s       *Scheduler
	parts   []*Partition
	offsets []int64
	jobs    []*Job
	order   map[string][]int64 // of each key: the offsets that are not decided, in order
	busy    map[string]bool    // keys of which something is in flight
	undone  map[int][]int64    // of each partition
	timers  []func()
}

func (w *world) keyOf(p int, m inbox.Message) string { return fmt.Sprintf("%d/%s", p, m.Key) }

// arrive releases some messages of one partition.
func (w *world) arrive() {
	p := rapid.IntRange(0, len(w.parts)-1).Draw(w.t, "partition")
	var items []*Item
	for range rapid.IntRange(1, 8).Draw(w.t, "messages") {
		w.offsets[p] += int64(rapid.IntRange(1, 3).Draw(w.t, "gap"))
		m := inbox.Message{Topic: someTopic, Partition: int32(p), Offset: w.offsets[p]}
		if k := rapid.IntRange(0, 4).Draw(w.t, "key"); k > 0 {
			m.Key = []byte{byte('a' + k)}
		}
		i := &Item{Message: m, Bytes: 10, Careful: rapid.IntRange(0, 9).Draw(w.t, "careful") == 0}
		if i.Careful {
			i.Starts = rapid.IntRange(0, 1).Draw(w.t, "starts")
		}
		w.s.mu.Lock()
		i.place = w.parts[p].tracker.add(m.Offset, 0)
		w.s.held, w.s.bytes = w.s.held+1, w.s.bytes+10
		w.parts[p].held, w.parts[p].bytes = w.parts[p].held+1, w.parts[p].bytes+10
		w.s.mu.Unlock()
		items = append(items, i)
		w.undone[p] = append(w.undone[p], m.Offset)
		if m.Key != nil {
			w.order[w.keyOf(p, m)] = append(w.order[w.keyOf(p, m)], m.Offset)
		}
	}
	w.s.Release(w.parts[p], items)
}

// begin takes a job, if there is one, and checks that it may be.
func (w *world) begin() {
	w.s.mu.Lock()
	j := w.s.pick(rapid.IntRange(1, 6).Draw(w.t, "batch"))
	if j != nil {
		w.s.begin(j)
	}
	w.s.mu.Unlock()
	if j == nil {
		return
	}
	next := map[string]int{}
	for _, i := range j.Items {
		if i.suspect() && (len(j.Items) > 1 || len(w.jobs) > 0) {
			w.t.Fatalf("a suspect is in flight with %d messages and %d jobs", len(j.Items), len(w.jobs))
		}
		if i.Message.Key == nil {
			continue
		}
		key := w.keyOf(int(i.Message.Partition), i.Message)
		if w.busy[key] {
			w.t.Fatalf("key %s is in flight twice", key)
		}
		if want := w.order[key][next[key]]; want != i.Message.Offset {
			w.t.Fatalf("key %s: offset %d began, want %d", key, i.Message.Offset, want)
		}
		next[key]++
	}
	for _, other := range w.jobs {
		if other.alone {
			w.t.Fatal("a job began beside a suspect")
		}
	}
	for key := range next {
		w.busy[key] = true
	}
	w.jobs = append(w.jobs, j)
}

// end finishes one of the jobs; its messages are decided, or fail, or were not tried.
func (w *world) end() {
	if len(w.jobs) == 0 {
		return
	}
	n := rapid.IntRange(0, len(w.jobs)-1).Draw(w.t, "job")
	j := w.jobs[n]
	w.jobs = slices.Delete(w.jobs, n, n+1)
	decisions := make([]Decision, len(j.Items))
	failed := map[string]bool{}
	for n, i := range j.Items {
		p := int(i.Message.Partition)
		key := w.keyOf(p, i.Message)
		delete(w.busy, key)
		switch outcome := rapid.IntRange(0, 4).Draw(w.t, "outcome"); {
		case i.Message.Key != nil && failed[key]: // deferred
		case outcome == 0:
			decisions[n].Wait = time.Duration(rapid.IntRange(1, 50).Draw(w.t, "wait")) * time.Millisecond
			i.Lone, failed[key] = true, true
		case outcome == 1:
			decisions[n].Front, failed[key] = true, true
		default:
			decisions[n] = Decision{Decided: true, Result: inbox.Processed}
			if i.Message.Key != nil {
				w.order[key] = w.order[key][1:]
			}
			w.undone[p] = slices.DeleteFunc(w.undone[p], func(o int64) bool { return o == i.Message.Offset })
		}
	}
	w.s.Finish(j, decisions)
}

// pass lets time pass: the oldest wait ends.
func (w *world) pass() {
	if len(w.timers) > 0 {
		call := w.timers[0]
		w.timers = w.timers[1:]
		call()
	}
}

// check compares watermarks and counts with what they should be.
func (w *world) check() {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	total := 0
	for p, part := range w.parts {
		total += len(w.undone[p])
		if part.held != len(w.undone[p]) || part.bytes != int64(10*part.held) {
			w.t.Fatalf("partition %d holds %d records of %d bytes, want %d", p, part.held, part.bytes, len(w.undone[p]))
		}
		mark, known := part.tracker.watermark()
		if known && len(w.undone[p]) > 0 && mark.Offset != w.undone[p][0] {
			w.t.Fatalf("partition %d: watermark %d, want %d", p, mark.Offset, w.undone[p][0])
		}
		if known && len(w.undone[p]) == 0 && mark.Offset != w.offsets[p]+1 {
			w.t.Fatalf("partition %d: watermark %d, want %d", p, mark.Offset, w.offsets[p]+1)
		}
	}
	if w.s.held != total || w.s.bytes != int64(10*total) || w.s.inFlight != len(w.jobs) {
		w.t.Fatalf("%d records of %d bytes are held and %d jobs run, want %d and %d", w.s.held, w.s.bytes, w.s.inFlight, total, len(w.jobs))
	}
}

// However messages arrive, fail and end: each key goes in order, one job at a time; a suspect is
// alone; the watermark passes nothing that is not done; and in the end all is done.
func TestScheduleKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		options := optionsOf(t, 1000)
		w := &world{
			t: t, offsets: []int64{-1, 99},
			order: map[string][]int64{}, busy: map[string]bool{}, undone: map[int][]int64{},
		}
		options.After = func(_ time.Duration, call func()) func() bool {
			w.timers = append(w.timers, call)
			return func() bool { return true }
		}
		w.s = New(options)
		for n := range 2 {
			w.parts = append(w.parts, newPartition(t.Context(), TopicPartition{someTopic, int32(n)}))
			w.s.partitions[w.parts[n].TopicPartition] = w.parts[n]
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				w.arrive()
			case 1, 2:
				w.begin()
			case 3:
				w.end()
			case 4:
				w.pass()
			}
			w.check()
		}
		w.finishAll()
	})
}

// finishAll decides everything, without failures from here on.
func (w *world) finishAll() {
	for range 10_000 {
		w.begin()
		for _, j := range w.jobs {
			decisions := make([]Decision, len(j.Items))
			for n, i := range j.Items {
				decisions[n] = Decision{Decided: true, Result: inbox.Processed}
				key := w.keyOf(int(i.Message.Partition), i.Message)
				delete(w.busy, key)
				if i.Message.Key != nil {
					w.order[key] = w.order[key][1:]
				}
				w.undone[int(i.Message.Partition)] = slices.DeleteFunc(w.undone[int(i.Message.Partition)], func(o int64) bool { return o == i.Message.Offset })
			}
			w.s.Finish(j, decisions)
		}
		w.jobs = nil
		w.check()
		if w.s.held == 0 {
			for _, p := range w.parts {
				if len(p.queues) > 0 || len(p.byKey) > 0 {
					w.t.Fatalf("%d queues are left", len(p.queues))
				}
			}
			return
		}
		w.pass()
	}
	w.t.Fatalf("%d messages are never done", w.s.held)
}

// A key with many messages does not delay the others by more than a turn.
func TestBusyKeyIsFairToOthers(t *testing.T) {
	s := New(optionsOf(t, 10_000))
	p := newPartition(t.Context(), TopicPartition{someTopic, 0})
	s.partitions[p.TopicPartition] = p
	var items []*Item
	for n := range 500 {
		items = append(items, &Item{Message: inbox.Message{Key: []byte("busy"), Offset: int64(n)}, place: p.tracker.add(int64(n), 0)})
	}
	for n := range 10 {
		items = append(items, &Item{
			Message: inbox.Message{Key: []byte{byte('a' + n)}, Offset: int64(500 + n)}, place: p.tracker.add(int64(500+n), 0),
		})
	}
	s.held, p.held = len(items), len(items)
	s.Release(p, items)
	turns := map[string]int{}
	for range 20 {
		j := s.Take(1)
		turns[string(j.Items[0].Message.Key)]++
		s.Finish(j, []Decision{{Decided: true, Result: inbox.Processed}})
	}
	if turns["busy"] != 10 || len(turns) != 11 {
		t.Errorf("turns: %v; want all keys, and the busy one in between", turns)
	}
	j := s.Take(100)
	if len(j.Items) != 100 {
		t.Errorf("a batch of %d, want 100 of the busy key", len(j.Items))
	}
}

// Closing lets go of all that is not in flight, and tells when the rest is done.
func TestClosedPartitionDrains(t *testing.T) {
	s := New(optionsOf(t, 100))
	p := newPartition(t.Context(), TopicPartition{someTopic, 0})
	s.partitions[p.TopicPartition] = p
	var items []*Item
	for n := range 10 {
		items = append(items, &Item{Message: inbox.Message{Key: []byte{byte('a' + n%3)}}, place: p.tracker.add(int64(n), 0), Bytes: 1})
	}
	s.held, s.bytes, p.held, p.bytes = 10, 10, 10, 10
	s.Release(p, items[:8])
	p.incoming = items[8:]
	first, second := s.Take(1), s.Take(1)
	s.Close(p, false)
	if s.held != 2 || p.held != 2 {
		t.Errorf("%d records are held, want the 2 in flight", s.held)
	}
	s.Finish(second, []Decision{{Wait: time.Hour}})
	select {
	case <-p.Drained:
		t.Fatal("drained with a message in flight")
	default:
	}
	s.Finish(first, []Decision{{Decided: true, Result: inbox.Processed}})
	<-p.Drained
	if mark, _ := p.tracker.watermark(); mark.Offset != 1 || s.held != 0 || s.bytes != 0 || s.inFlight != 0 {
		t.Errorf("watermark %+v, %d held, %d bytes, %d in flight", mark, s.held, s.bytes, s.inFlight)
	}
	// What was being looked up meanwhile is let go of if it is handed over.
	s.held, s.bytes, p.held, p.bytes = 10, 10, 10, 10
	s.Release(p, items)
	if s.held != 0 || s.bytes != 0 || p.held != 0 {
		t.Errorf("%d records, %d bytes of a partition that is gone stay held", s.held, s.bytes)
	}
	s.Drain()
	if j := s.Take(1); j != nil {
		t.Errorf("a job of a closed partition: %+v", j)
	}
}
