package relay

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/internal/backlog"
	"github.com/outbox-relay/relay/internal/brief"
	"github.com/outbox-relay/relay/internal/pipeline"
	"github.com/outbox-relay/relay/internal/position"
	"github.com/outbox-relay/relay/internal/topics"
)

// laneState is what a lane says of itself: to the hooks, to Relay.Status and, if it is the owner,
// in the lane's row.
type laneState struct {
	hooks   Hooks
	outages *topics.Unavailable // those that the lane works without
	log     *slog.Logger

	batches atomic.Int64 // committed by this process
	parked  atomic.Int64 // aggregates

	holds    atomic.Bool                       // whether this process has the lane
	backlog  atomic.Pointer[backlog.Backlog]   // nil unless this process has the lane
	position atomic.Pointer[position.Position] // up to which all is published; nil if another process knows

	mu       sync.Mutex
	current  LaneStatus
	unclosed string // why transactions of the lane are not closed yet
	stranger string // what there is to say of a stranger that has the lane's lock
	locked   string // who keeps readers off the outbox
}

func newLaneState(lane string, hooks Hooks, outages *topics.Unavailable, log *slog.Logger) *laneState {
	return &laneState{
		hooks: hooks, outages: outages, log: log,
		current: LaneStatus{Lane: lane, State: Standby, Since: time.Now(), Progress: time.Now()},
	}
}

func (s *laneState) status() LaneStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.current
	status.ParkedAggregates, status.Backlog, status.Holds = int(s.parked.Load()), s.backlog.Load(), s.holds.Load()
	return status
}

// is reports whether the lane is in a state.
func (s *laneState) is(state State) bool { return s.status().State == state }

// running reports that the lane works, and what it works without: topics, the ends of transactions,
// or its lock.
func (s *laneState) running() {
	s.mu.Lock()
	unclosed, stranger, locked := s.unclosed, s.stranger, s.locked
	s.mu.Unlock()
	s.impaired(Running, note{CauseTopic, s.outages.Reason()}, note{CauseTransaction, unclosed}, note{CauseLock, stranger},
		note{CauseTable, locked})
}

// note is what there is to say of a lane that works or stands by, and what it is about.
type note struct {
	cause Cause
	text  string // empty for nothing
}

// impaired is change with what there is to say.
func (s *laneState) impaired(state State, notes ...note) {
	var texts []string
	var causes []Cause
	for _, n := range notes {
		if n.text != "" {
			texts, causes = append(texts, n.text), append(causes, n.cause)
		}
	}
	s.changeTo(state, brief.Join(texts...), causes, nil)
}

// setUnclosed is told why transactions are not closed yet; empty when all are, or nothing is known
// to hold them up.
func (s *laneState) setUnclosed(reason string) {
	s.mu.Lock()
	changed := s.unclosed != reason
	s.unclosed = reason
	state := s.current.State
	s.mu.Unlock()
	if !changed {
		return
	}
	if reason != "" {
		s.log.Warn("read_committed readers may be waiting for the end of a transaction", "reason", reason)
	}
	if state == Running {
		s.running()
	}
}

// setStranger is told what there is to say of a stranger that has the lane's lock, and returns what
// there was before.
func (s *laneState) setStranger(reason string) (before string) {
	s.mu.Lock()
	before, s.stranger = s.stranger, reason
	state := s.current.State
	s.mu.Unlock()
	if reason != before && state == Running {
		s.running()
	}
	return before
}

// setLocked is told who keeps readers off the outbox; empty if no session does.
func (s *laneState) setLocked(reason string) {
	s.mu.Lock()
	before := s.locked
	s.locked = reason
	state := s.current.State
	s.mu.Unlock()
	switch {
	case reason != "" && before == "":
		s.log.Warn("nothing can be read", "reason", reason)
	case reason == "" && before != "":
		s.log.Info("the table is not locked any more")
	}
	if reason != before && state == Running {
		s.running()
	}
}

// change sets the state and tells the hook if it differs.
func (s *laneState) change(state State) { s.changeTo(state, "", nil, nil) }

// waits is change for a lane that waits for the ends of transactions.
func (s *laneState) waits(reason string) { s.changeTo(Waiting, reason, []Cause{CauseTransaction}, nil) }

// failed is change for a state that an error explains.
func (s *laneState) failed(state State, err error) {
	causes := []Cause{causeOf(err)}
	s.mu.Lock()
	if s.locked != "" {
		causes = append(causes, CauseTable)
	}
	s.mu.Unlock()
	s.changeTo(state, err.Error(), causes, err)
}

func (s *laneState) changeTo(state State, reason string, causes []Cause, err error) {
	if state != Halted { // a diagnosis names what to do at its end
		reason = brief.Cut(reason, brief.Longest)
	}
	if state == Standby {
		s.parked.Store(0) // it is the owner's to know
		s.position.Store(nil)
	}
	s.mu.Lock()
	if s.current.State == state && s.current.Reason == reason {
		s.mu.Unlock()
		return
	}
	s.current.State, s.current.Reason, s.current.Causes, s.current.Err = state, reason, causes, err
	s.current.Since = time.Now()
	status := s.current
	s.mu.Unlock()
	s.hooks.changed(status)
}

// resumed is told the sequence number from which a new owner goes on.
func (s *laneState) resumed(seq int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Seq, s.current.Progress = seq, time.Now()
}

func (s *laneState) progressed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Progress = time.Now()
}

// caughtUp is told when nothing is left to read: whatever a lane has halted for is gone.
func (s *laneState) caughtUp() {
	if s.is(Halted) {
		s.running()
	}
}

func (s *laneState) committed(b pipeline.Batch) {
	s.mu.Lock()
	s.current.Seq, s.current.Progress = b.Seq, time.Now()
	s.mu.Unlock()
	s.batches.Add(1)
	s.running()
	s.hooks.committed(b)
}

// published is told how far the lane has come.
func (s *laneState) published(at position.Position) { s.position.Store(&at) }
