package outboxread

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
)

// schedule drives writers through a random interleaving beside a reader, with a model that knows in
// which order the transactions took each aggregate. Nothing in it waits: a lock is only taken while
// the model says that it is free.
type schedule struct {
	reader   *follower
	writers  []*scheduled
	prepared []*preparedTxn
	holder   map[string]any // aggregate to the *scheduled or *preparedTxn that holds it
	events   int
	prefix   string
	expected map[string][]string // aggregate to the values that its transactions have committed or may yet
	fate     map[string]bool     // value to whether it has committed; absent when it was rolled back
}

// scheduled is one connection and its transaction. Level 0 is the transaction itself, the others
// its savepoints.
type scheduled struct {
	conn   *pgx.Conn
	open   bool
	levels []level
}

type level struct {
	taken   []string // aggregates
	written []string // values
}

type preparedTxn struct {
	name    string
	taken   []string
	written []string
}

var aggregates = []string{"a", "b", "c"}

func (s *schedule) idle(t *rapid.T) *scheduled { return s.pick(t, false) }
func (s *schedule) busy(t *rapid.T) *scheduled { return s.pick(t, true) }

func (s *schedule) pick(t *rapid.T, open bool) *scheduled {
	var fit []*scheduled
	for _, w := range s.writers {
		if w.open == open {
			fit = append(fit, w)
		}
	}
	if len(fit) == 0 {
		t.Skip("no such transaction now")
	}
	return rapid.SampledFrom(fit).Draw(t, "writer")
}

func (s *schedule) begin(t *rapid.T) {
	w := s.idle(t)
	outboxtest.Exec(t, w.conn, `BEGIN`)
	w.open, w.levels = true, []level{{}}
}

func (s *schedule) xid(t *rapid.T) { takeXid(t, s.busy(t).conn) }

func (w *scheduled) top() *level { return &w.levels[len(w.levels)-1] }

func (s *schedule) lock(t *rapid.T) {
	w := s.busy(t)
	name := rapid.SampledFrom(aggregates).Draw(t, "aggregate")
	if s.holder[name] != nil {
		t.Skip("held")
	}
	take(t, w.conn, name)
	s.holder[name] = w
	w.top().taken = append(w.top().taken, name)
}

// write inserts a burst of events of one aggregate that the writer holds, in one statement.
func (s *schedule) write(t *rapid.T) {
	w := s.busy(t)
	var held []string
	for _, name := range aggregates {
		if s.holder[name] == w {
			held = append(held, name)
		}
	}
	if len(held) == 0 {
		t.Skip("holds nothing")
	}
	name := rapid.SampledFrom(held).Draw(t, "aggregate")
	var burst [][]byte
	for range rapid.IntRange(1, 5).Draw(t, "burst") {
		s.events++
		value := fmt.Sprintf("%s %d", s.prefix, s.events)
		burst = append(burst, []byte(value))
		w.top().written = append(w.top().written, value)
		s.expected[name] = append(s.expected[name], value)
		s.fate[value] = false
	}
	outboxtest.Exec(t, w.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
		SELECT 'order', $1, 'Changed', p FROM unnest($2::bytea[]) WITH ORDINALITY u (p, n) ORDER BY n`, name, burst)
}

func (s *schedule) savepoint(t *rapid.T) {
	w := s.busy(t)
	outboxtest.Exec(t, w.conn, fmt.Sprintf(`SAVEPOINT s%d`, len(w.levels)))
	w.levels = append(w.levels, level{})
}

func (s *schedule) rollbackTo(t *rapid.T) {
	w := s.busy(t)
	if len(w.levels) == 1 {
		t.Skip("no savepoint")
	}
	to := rapid.IntRange(1, len(w.levels)-1).Draw(t, "savepoint")
	outboxtest.Exec(t, w.conn, fmt.Sprintf(`ROLLBACK TO s%d`, to))
	for _, l := range w.levels[to:] {
		s.undo(l.taken, l.written)
	}
	w.levels = append(w.levels[:to], level{}) // the savepoint itself lives on
}

func (s *schedule) release(t *rapid.T) {
	w := s.busy(t)
	if len(w.levels) == 1 {
		t.Skip("no savepoint")
	}
	outboxtest.Exec(t, w.conn, fmt.Sprintf(`RELEASE s%d`, len(w.levels)-1))
	last := *w.top()
	w.levels = w.levels[:len(w.levels)-1]
	w.top().taken = append(w.top().taken, last.taken...)
	w.top().written = append(w.top().written, last.written...)
}

// undo frees the aggregates and forgets the events.
func (s *schedule) undo(taken, written []string) {
	for _, name := range taken {
		delete(s.holder, name)
	}
	for _, value := range written {
		delete(s.fate, value)
	}
}

// keep frees the aggregates; the events must be read from now on.
func (s *schedule) keep(taken, written []string) {
	for _, name := range taken {
		delete(s.holder, name)
	}
	for _, value := range written {
		s.fate[value] = true
	}
}

// end forgets the transaction of a writer and returns what it took and wrote.
func (w *scheduled) end() (taken, written []string) {
	for _, l := range w.levels {
		taken, written = append(taken, l.taken...), append(written, l.written...)
	}
	w.open, w.levels = false, nil
	return taken, written
}

func (s *schedule) commit(t *rapid.T) {
	w := s.busy(t)
	outboxtest.Exec(t, w.conn, `COMMIT`)
	s.keep(w.end())
}

func (s *schedule) rollback(t *rapid.T) {
	w := s.busy(t)
	outboxtest.Exec(t, w.conn, `ROLLBACK`)
	s.undo(w.end())
}

func (s *schedule) prepare(t *rapid.T) {
	w := s.busy(t)
	if len(s.prepared) == 4 {
		t.Skip("enough are prepared")
	}
	s.events++
	p := &preparedTxn{name: fmt.Sprintf("%s %d", s.prefix, s.events)}
	outboxtest.Exec(t, w.conn, fmt.Sprintf(`PREPARE TRANSACTION '%s'`, p.name))
	p.taken, p.written = w.end()
	for _, name := range p.taken {
		s.holder[name] = p
	}
	s.prepared = append(s.prepared, p)
}

func (s *schedule) decide(t *rapid.T, verb string, then func(taken, written []string)) {
	w := s.idle(t)
	if len(s.prepared) == 0 {
		t.Skip("nothing is prepared")
	}
	i := rapid.IntRange(0, len(s.prepared)-1).Draw(t, "prepared")
	p := s.prepared[i]
	outboxtest.Exec(t, w.conn, fmt.Sprintf(`%s PREPARED '%s'`, verb, p.name))
	s.prepared = slices.Delete(s.prepared, i, i+1)
	then(p.taken, p.written)
}

// read catches up and checks that everything committed has come: no open transaction delays
// another.
func (s *schedule) read(t *rapid.T) {
	s.reader.catchUp(t)
	s.check(t, s.reader.seen, true)
}

// page reads one page, so that a window stays open while writers go on.
func (s *schedule) page(t *rapid.T) {
	s.reader.step(t)
	s.check(t, s.reader.seen, false)
}

// resize changes the size of the pages, as the refusal of a record does.
func (s *schedule) resize(t *rapid.T) {
	s.reader.reader.maxRows = rapid.SampledFrom([]int{1, 2, 7, 5000}).Draw(t, "rows")
	s.reader.reader.maxBytes = rapid.SampledFrom([]int{500, 1200, 8 << 20}).Draw(t, "bytes")
}

// check compares what was read with the model: nothing invented, doubled or out of order; nothing
// missing either where all of it was read.
func (s *schedule) check(t *rapid.T, seen []event, all bool) {
	got := make(map[string][]string)
	for _, e := range seen {
		if !s.fate[e.value] {
			t.Fatalf("%q was read and had not committed", e.value)
		}
		got[e.key] = append(got[e.key], e.value)
	}
	for _, name := range aggregates {
		var want []string
		for _, value := range s.expected[name] {
			if s.fate[value] {
				want = append(want, value)
			}
		}
		// A window still open holds whatever of the aggregate it has not come to: a prefix must have
		// been read.
		if all && !slices.Equal(got[name], want) || !all && !isPrefix(got[name], want) {
			t.Fatalf("aggregate %s: read %q, committed %q", name, got[name], want)
		}
	}
}

func isPrefix(part, whole []string) bool {
	return len(part) <= len(whole) && slices.Equal(part, whole[:len(part)])
}

// finish ends what is open, reads to the end, and takes over from some of the places where a reader
// could have stopped.
func (s *schedule) finish(t *rapid.T) {
	for _, w := range s.writers {
		if w.open {
			outboxtest.Exec(t, w.conn, `ROLLBACK`)
			s.undo(w.end())
		}
	}
	for _, p := range s.prepared {
		outboxtest.Exec(t, s.writers[0].conn, fmt.Sprintf(`COMMIT PREPARED '%s'`, p.name))
		s.keep(p.taken, p.written)
	}
	s.prepared = nil
	s.read(t)
	stops := s.reader.stops
	for range min(4, len(stops)) {
		from := rapid.SampledFrom(stops).Draw(t, "takeover")
		again := &follower{reader: s.reader.reader, at: from.at, seen: slices.Clone(s.reader.seen[:from.seen])}
		again.catchUp(t)
		s.check(t, again.seen, true)
	}
}

// clean leaves nothing open behind a schedule that failed, for the next one that looks for a
// shorter failure.
func (s *schedule) clean(t testing.TB, conn *pgx.Conn) {
	for _, w := range s.writers {
		outboxtest.Exec(t, w.conn, `ROLLBACK`)
	}
	for _, p := range s.prepared {
		outboxtest.Exec(t, conn, fmt.Sprintf(`ROLLBACK PREPARED '%s'`, p.name))
	}
}

// TestAnySchedule is the property behind the windows: whatever the interleaving of early xids, late
// locks, savepoints, rollbacks, prepared transactions, reads, page sizes and takeovers, each
// aggregate's events come out once each, in the order in which its transactions took it, as soon as
// they have committed.
func TestAnySchedule(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	admin := withAggregates(t, url)
	reader := followAll(t, url)
	writers := make([]*pgx.Conn, 4)
	for i := range writers {
		writers[i] = outboxtest.Open(t, url)
	}
	run := 0
	for part := range 3 { // each of as many schedules as -rapid.checks says, a hundred by default
		t.Run(fmt.Sprint(part), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				run++
				reader.at, reader.seen, reader.stops = now(rt, reader), nil, nil
				s := &schedule{
					reader: reader, holder: make(map[string]any), prefix: fmt.Sprintf("run %d", run),
					expected: make(map[string][]string), fate: make(map[string]bool),
				}
				for _, conn := range writers {
					s.writers = append(s.writers, &scheduled{conn: conn})
				}
				defer s.clean(t, admin)
				s.resize(rt)
				actions := map[string]func(*rapid.T){
					"begin": s.begin, "begin another": s.begin, "take an xid": s.xid, "take an aggregate": s.lock, "take another aggregate": s.lock,
					"write": s.write, "write more": s.write, "savepoint": s.savepoint, "rollback to savepoint": s.rollbackTo, "release": s.release,
					"commit": s.commit, "commit another": s.commit, "rollback": s.rollback, "prepare": s.prepare,
					"commit prepared":   func(t *rapid.T) { s.decide(t, "COMMIT", s.keep) },
					"rollback prepared": func(t *rapid.T) { s.decide(t, "ROLLBACK", s.undo) },
					"read":              s.read, "read a page": s.page, "read another page": s.page, "resize pages": s.resize,
				}
				for range 3 { // longer schedules than rapid makes by itself
					rt.Repeat(actions)
				}
				s.finish(rt)
			})
		})
	}
}
