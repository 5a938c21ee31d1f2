package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Markers follows each transaction of a session from its end until its markers stand on every
// partition that it wrote to, and frees its transactional id only then. Kafka leaves out the marker
// of a partition that has no leader at that moment, and notes that the transaction is complete; the
// next marker of that producer would decide both transactions. So there are two rules, by which no
// partition ever holds two of them:
//
//   - an id is used again only once its last transaction is seen to be closed: its coordinator says
//     that it is over, and its partitions are stable beyond its records (if it was committed) or,
//     asked after that, do not hold it open;
//   - a session writes to a topic only once no partition of it holds an earlier transaction of the
//     lane open.
//
// One question is about all transactions that have ended since the last one, and is asked while
// other ids are in use. A transaction that is left open ends the session: the takeover that follows
// decides it as it was decided.
type Markers struct {
	client       *kgo.Client
	coordinators *Coordinators
	reports      Reports
	log          *slog.Logger
	checkpoints  string // the topic to which each transaction writes

	mu      sync.Mutex
	states  map[*Producer]*following
	fenced  map[int64]int16 // by producer id, the epoch with which this session began
	aside   []unseen
	fault   error
	changed chan struct{} // closed and replaced when an id is freed, or with the fault

	wake, urgent, slow chan struct{} // one place each: something has ended, somebody waits, something cannot be asked
	stop               context.CancelFunc
	group              sync.WaitGroup
}

// following is what is known of a producer.
type following struct {
	busy  bool   // a transaction is open
	ended *ended // the last one, until it is seen to be closed
}

// ended is a transaction that has ended.
type ended struct {
	checkpoint.Transaction
	id     string
	commit bool
	places Partitions
	ends   map[Place]int64 // the offsets behind its last acknowledged records
	at     time.Time
	stuck  map[string]error // why partitions of these topics cannot be asked
}

// unseen is a transaction whose id is used again although a partition of a topic cannot be asked.
// Nothing is written to that topic until it can.
type unseen struct {
	checkpoint.Transaction // its only topic is this one
	commit                 bool
	since                  time.Time
	cause                  error
}

func (u unseen) same(v unseen) bool {
	return u.ProducerID == v.ProducerID && u.Epoch == v.Epoch && slices.Equal(u.Topics, v.Topics)
}

// mostUnseen bounds what the checkpoint carries along. A lane that has more waits.
const mostUnseen = 64

// The pauses of markers.
const (
	askLater     = 50 * time.Millisecond // so that one question is about several transactions
	askAtOnce    = 1                     // if no more ids than that are free
	askAgain     = 2 * time.Millisecond  // markers follow the end within milliseconds
	askAgainMost = 200 * time.Millisecond
	askLimit     = 5 * time.Second
	lookLimit    = 3 * time.Second        // of one question to partitions
	stableLimit  = 100 * time.Millisecond // for the partitions, once the coordinators have answered
	lookAgain    = time.Second            // at partitions that could not be asked
	tellAfter    = 2 * time.Second        // a marker that takes longer is told of
	forgetAfter  = time.Hour              // a topic that is gone for so long was deleted
)

func newMarkers(o PoolOptions) (*Markers, error) {
	// A question that fails is asked again here, and others go on meanwhile.
	client, err := kgo.NewClient(append(slices.Clone(o.ClientOptions),
		kgo.RequestRetries(2), kgo.RetryTimeout(lookLimit), kgo.MetadataMinAge(time.Second))...)
	if err != nil {
		return nil, fmt.Errorf("create client: %w", err)
	}
	m := &Markers{
		client: client, coordinators: NewCoordinators(client), reports: o.Reports, log: o.Logger,
		checkpoints: o.Checkpoints.Topic,
		states:      make(map[*Producer]*following), fenced: make(map[int64]int16), changed: make(chan struct{}),
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1), slow: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop = cancel
	m.group.Go(func() { m.follow(ctx) })
	m.group.Go(func() { m.followStuck(ctx) })
	return m, nil
}

func (m *Markers) close() {
	m.stop()
	m.group.Wait()
	m.client.Close()
	m.reports.Unclosed("")
}

// nudge puts a value into a channel of one place.
func nudge(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// broadcast tells those who wait that something has changed. The caller holds the lock.
func (m *Markers) broadcast() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// fencedAs notes with which identity the session has taken a producer.
func (m *Markers) fencedAs(p *Producer, id int64, epoch int16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.states[p] = &following{}
	m.fenced[id] = epoch
}

// take waits until one of the producers is free, the first of them if it is, and marks it as busy.
func (m *Markers) take(ctx context.Context, producers ...*Producer) (*Producer, error) {
	told := false
	late := time.NewTimer(tellAfter)
	defer late.Stop()
	for {
		m.mu.Lock()
		p := m.free(producers)
		if p == nil {
			p = m.setAside(producers)
		}
		fault, changed := m.fault, m.changed
		m.mu.Unlock()
		if fault != nil {
			return nil, fault
		}
		if p != nil {
			if told {
				m.reports.Working()
			}
			return p, nil
		}
		nudge(m.urgent)
		select {
		case <-changed:
		case <-late.C:
			told = true
			late.Reset(tellAfter)
			m.reports.Waiting(m.why())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// free finds a producer that can be used, and marks it as busy. The caller holds the lock.
func (m *Markers) free(producers []*Producer) *Producer {
	for _, p := range producers {
		if s := m.states[p]; !s.busy && s.ended == nil {
			s.busy = true
			m.hurry()
			return p
		}
	}
	return nil
}

// setAside frees a producer whose last transaction is over, and which waits only for partitions
// that cannot be asked. It marks it as busy. The caller holds the lock.
func (m *Markers) setAside(producers []*Producer) *Producer {
	for _, p := range producers {
		s := m.states[p]
		if s.busy || s.ended == nil || s.ended.stuck == nil || time.Since(s.ended.at) < tellAfter || len(m.aside) >= mostUnseen {
			continue
		}
		if _, own := s.ended.stuck[m.checkpoints]; own { // the next transaction would write there, too
			continue
		}
		for topic, cause := range s.ended.stuck {
			u := unseen{s.ended.Transaction, s.ended.commit, time.Now(), cause}
			u.Topics = []string{topic}
			m.aside = append(m.aside, u)
		}
		s.ended, s.busy = nil, true
		return p
	}
	return nil
}

// remember is told of a transaction of an earlier session whose topic cannot be asked.
func (m *Markers) remember(t checkpoint.Transaction, cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.aside = append(m.aside, unseen{t, true, time.Now(), cause})
	nudge(m.slow)
}

// has is told that a transaction of a producer has ended.
func (m *Markers) has(t *Txn, commit bool) {
	e := &ended{
		Transaction: checkpoint.Transaction{Number: t.Producer.number, ProducerID: t.id, Epoch: t.epoch},
		id:          t.Producer.txnID, commit: commit, at: time.Now(),
	}
	e.places, e.ends = t.places.partitions()
	e.Topics = slices.Sorted(maps.Keys(e.places))
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.states[t.Producer]
	s.busy = false
	if len(e.places) == 0 {
		m.broadcast()
		return
	}
	s.ended = e
	nudge(m.wake)
	m.hurry()
}

// hurry has the question asked at once if ids become scarce. The caller holds the lock.
func (m *Markers) hurry() {
	free := 0
	for _, s := range m.states {
		if !s.busy && s.ended == nil {
			free++
		}
	}
	if free <= askAtOnce {
		nudge(m.urgent)
	}
}

// following lists the transactions that are not closed yet: those of which a partition cannot be
// asked, or all others. The caller holds the lock.
func (m *Markers) following(stuck bool) (all []*ended) {
	for _, s := range m.states {
		if s.ended != nil && (s.ended.stuck != nil) == stuck {
			all = append(all, s.ended)
		}
	}
	return all
}

// SetAsides are the committed transactions that the checkpoint has to carry along.
func (m *Markers) SetAsides() (all []checkpoint.Transaction) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, u := range m.aside {
		if u.commit {
			all = append(all, u.Transaction)
		}
	}
	return all
}

// Blocked returns the topics to which nothing may be written now, and why; nil if there are none.
func (m *Markers) Blocked(topics map[string]struct{}) map[string]error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var blocked map[string]error
	for _, u := range m.aside {
		if _, ok := topics[u.Topics[0]]; ok {
			if blocked == nil {
				blocked = make(map[string]error)
			}
			blocked[u.Topics[0]] = u.cause
		}
	}
	return blocked
}

// why says for what transactions the lane waits.
func (m *Markers) why() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var reasons []string
	for _, s := range m.states {
		if e := s.ended; e != nil && time.Since(e.at) >= tellAfter {
			if e.stuck == nil {
				reasons = append(reasons, "the last transaction of "+e.id+" is not known to be over yet")
			}
			for _, cause := range e.stuck {
				reasons = append(reasons, cause.Error())
			}
		}
	}
	for _, u := range m.aside {
		reasons = append(reasons, u.cause.Error())
	}
	slices.Sort(reasons)
	return strings.Join(slices.Compact(reasons), "; ")
}

// Failed returns the fault that ends the session, once there is one, or nil once done is closed.
func (m *Markers) Failed(ctx context.Context, done <-chan struct{}) error {
	for {
		m.mu.Lock()
		fault, changed := m.fault, m.changed
		m.mu.Unlock()
		if fault != nil {
			return fault
		}
		select {
		case <-changed:
		case <-done:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// leftOpen ends the session.
func (m *Markers) leftOpen(o Open) {
	m.reports.LeftOpen(o.Topic)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault == nil {
		m.fault = fmt.Errorf("%w: %s, from offset %d (producer id %d, epoch %d)", ErrLeftOpen, o.Place, o.Start, o.ProducerID, o.Epoch)
		m.broadcast()
	}
}

// ErrLeftOpen ends a session, or a takeover that has written markers and begins again.
var ErrLeftOpen = errors.New("a partition held a transaction open that is complete for its coordinator: the brokers have left its marker " +
	"out, and the lane is taken over to write it")

// cannotAsk says why it is not known whether a partition has the markers.
func cannotAsk(place Place, cause error) error {
	if errors.Is(cause, kerr.TopicAuthorizationFailed) {
		return fmt.Errorf("topic %s may not be read by this relay, which has to see whether its last transaction there is closed: %w; "+
			"allow Read on the topic, see relay acl", place.Topic, cause)
	}
	return fmt.Errorf("%s cannot be asked whether the last transaction there is closed: %w", place, cause)
}
