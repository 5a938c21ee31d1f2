package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// fakeInbox keeps in memory what an inbox keeps in Postgres. It is the database: several consumers
// share one, as the processes of a service do. Handlers get a nil transaction.
type fakeInbox struct {
	mu       sync.Mutex
	marks    map[string]bool
	effects  []inbox.Message // in the order in which they were committed
	parked   []parkedMessage
	rows     int64 // of parked messages so far
	started  map[string]int
	sessions map[schedule.TopicPartition]string
	asked    map[string]inboxloop.ParkedKey // keys whose retry is asked for
	failed   map[string]error               // the errors of retries that failed
	seen     int                            // messages that were looked up
	began    [][]inbox.Message              // the calls of Start
	retained []time.Duration
	sweeps   int
	away     error // returned by every call while it is set
}

type parkedMessage struct {
	inbox.Message
	cause    inbox.Cause
	attempts int
	row      int64
}

func newFakeInbox() *fakeInbox {
	return &fakeInbox{
		marks: map[string]bool{}, started: map[string]int{}, sessions: map[schedule.TopicPartition]string{},
		asked: map[string]inboxloop.ParkedKey{}, failed: map[string]error{},
	}
}

func markOf(m inbox.Message) string { return m.Source + "\x00" + m.ID }

func keyOf(topic string, key []byte) string { return topic + "\x00" + string(key) }

// setAway makes every call fail as when Postgres is down, or ends that.
func (f *fakeInbox) setAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = nil
	if away {
		f.away = inbox.Unavailable(errors.New("connection refused"))
	}
}

func (f *fakeInbox) out() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

func (f *fakeInbox) enqueue(m inbox.Message, cause inbox.Cause, attempts int) {
	f.rows++
	f.parked = append(f.parked, parkedMessage{m, cause, attempts, f.rows})
}

func (f *fakeInbox) behind(m inbox.Message) bool {
	for _, p := range f.parked {
		if m.Key != nil && p.Topic == m.Topic && p.Key != nil && string(p.Key) == string(m.Key) {
			return true
		}
	}
	return false
}

// settle decides a message whose handler is done: the commit.
func (f *fakeInbox) settle(m inbox.Message) (inbox.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return inbox.Failed, f.away
	}
	if f.marks[markOf(m)] {
		return inbox.Duplicate, nil
	}
	f.marks[markOf(m)] = true
	delete(f.started, markOf(m))
	f.effects = append(f.effects, m)
	return inbox.Processed, nil
}

// accept decides a message without its handler, if that is possible.
func (f *fakeInbox) accept(m inbox.Message) (inbox.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.away != nil:
		return inbox.Failed, f.away
	case f.marks[markOf(m)]:
		delete(f.started, markOf(m))
		return inbox.Duplicate, nil
	case f.behind(m):
		f.marks[markOf(m)] = true
		delete(f.started, markOf(m))
		f.enqueue(m, inbox.CauseBehind, 0)
		return inbox.Parked, nil
	}
	return inbox.Failed, nil
}

func (f *fakeInbox) Handle(ctx context.Context, m inbox.Message, handler func(context.Context, pgx.Tx) error) (inbox.Result, error) {
	return f.handle(inbox.WithMessage(ctx, m), m, handler)
}

// handle leaves the context as it is, as a batch does.
func (f *fakeInbox) handle(ctx context.Context, m inbox.Message, handler func(context.Context, pgx.Tx) error) (inbox.Result, error) {
	if result, err := f.accept(m); err != nil || result != inbox.Failed {
		return result, err
	}
	if err := handler(ctx, nil); err != nil {
		if inbox.IsPermanent(err) {
			return f.Park(ctx, m, inbox.CausePermanent, 1, err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.started, markOf(m))
		return inbox.Failed, err
	}
	return f.settle(m)
}

func (f *fakeInbox) HandleBatch(
	ctx context.Context, messages []inbox.Message, handler func(context.Context, pgx.Tx, []inbox.Message) error,
) ([]inbox.Outcome, error) {
	outcomes := make([]inbox.Outcome, len(messages))
	if err := f.out(); err != nil {
		return outcomes, err
	}
	blocked := map[string]bool{}
	for n, m := range messages {
		if m.Key != nil && blocked[keyOf(m.Topic, m.Key)] {
			outcomes[n] = inbox.Outcome{Result: inbox.Deferred}
			continue
		}
		result, err := f.handle(ctx, m, func(ctx context.Context, tx pgx.Tx) error {
			return handler(ctx, tx, []inbox.Message{m})
		})
		outcomes[n] = inbox.Outcome{Result: result, Err: err}
		if result == inbox.Failed && m.Key != nil {
			blocked[keyOf(m.Topic, m.Key)] = true
		}
	}
	return outcomes, nil
}

func (f *fakeInbox) AtMostOnce(ctx context.Context, m inbox.Message, handler func(context.Context) error) (inbox.Result, error) {
	if result, err := f.accept(m); err != nil || result != inbox.Failed {
		return result, err
	}
	if err := handler(ctx); err != nil {
		return inbox.Failed, err
	}
	return f.settle(m)
}

func (f *fakeInbox) Park(_ context.Context, m inbox.Message, cause inbox.Cause, attempts int, _ error) (inbox.Result, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.away != nil:
		return inbox.Failed, f.away
	case f.marks[markOf(m)]:
		return inbox.Duplicate, nil
	}
	f.marks[markOf(m)] = true
	delete(f.started, markOf(m))
	f.enqueue(m, cause, attempts)
	return inbox.Parked, nil
}

func (f *fakeInbox) Seen(_ context.Context, messages []inbox.Message) ([]bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return nil, f.away
	}
	seen := make([]bool, len(messages))
	f.seen += len(messages)
	for n, m := range messages {
		seen[n] = f.marks[markOf(m)]
	}
	return seen, nil
}

func (f *fakeInbox) Started(_ context.Context, messages []inbox.Message) ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	starts := make([]int, len(messages))
	for n, m := range messages {
		starts[n] = f.started[markOf(m)]
	}
	return starts, f.away
}

func (f *fakeInbox) Start(_ context.Context, messages []inbox.Message) ([]int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return nil, f.away
	}
	f.began = append(f.began, messages)
	starts := make([]int, len(messages))
	for n, m := range messages {
		starts[n] = f.started[markOf(m)]
		f.started[markOf(m)]++
	}
	return starts, nil
}

func (f *fakeInbox) Open(_ context.Context, topic string, partition int32) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return false, f.away
	}
	before := f.sessions[schedule.TopicPartition{Topic: topic, Number: partition}]
	f.sessions[schedule.TopicPartition{Topic: topic, Number: partition}] = "this"
	return before == "crashed", nil
}

func (f *fakeInbox) Close(_ context.Context, topic string, partition int32) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away == nil {
		delete(f.sessions, schedule.TopicPartition{Topic: topic, Number: partition})
	}
	return f.away
}

func (f *fakeInbox) Parked(context.Context) (keys int64, oldest time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	parked := map[string]bool{}
	for _, p := range f.parked {
		parked[keyOf(p.Topic, p.Key)] = true
	}
	return int64(len(parked)), time.Minute, f.away
}

func (f *fakeInbox) Requested(_ context.Context, limit int) ([]inboxloop.ParkedKey, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var keys []inboxloop.ParkedKey
	for _, key := range f.asked {
		for _, p := range f.parked {
			if keyOf(p.Topic, p.Key) == keyOf(key.Topic, key.Key) {
				key.Last = p.row
			}
		}
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b inboxloop.ParkedKey) int { return int(a.ID - b.ID) })
	return keys[:min(limit, len(keys))], f.away
}

// ask asks for the retry of a key.
func (f *fakeInbox) ask(topic string, key []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[keyOf(topic, key)] = inboxloop.ParkedKey{ID: int64(len(f.asked) + 1), Topic: topic, Key: key}
}

func (f *fakeInbox) head(key inboxloop.ParkedKey) int {
	for n, p := range f.parked {
		if keyOf(p.Topic, p.Key) == keyOf(key.Topic, key.Key) {
			return n
		}
	}
	return -1
}

func (f *fakeInbox) Retry(
	ctx context.Context, key inboxloop.ParkedKey, handler func(context.Context, pgx.Tx, inbox.Message) error,
) (inboxloop.Retried, error) {
	f.mu.Lock()
	if f.away != nil {
		defer f.mu.Unlock()
		return inboxloop.Retried{Left: true}, f.away
	}
	n := f.head(key)
	if n < 0 {
		defer f.mu.Unlock()
		delete(f.asked, keyOf(key.Topic, key.Key))
		return inboxloop.Retried{}, nil
	}
	m, row := f.parked[n].Message, f.parked[n].row
	f.mu.Unlock()
	if err := handler(ctx, nil, m); err != nil {
		return inboxloop.Retried{Message: m, Result: inbox.Failed, Left: true}, fmt.Errorf("retry: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n = f.head(key)
	f.parked = append(f.parked[:n:n], f.parked[n+1:]...)
	f.effects = append(f.effects, m)
	return inboxloop.Retried{Message: m, Row: row, Result: inbox.Processed, Left: true}, nil
}

func (f *fakeInbox) RetryAtMostOnce(
	ctx context.Context, key inboxloop.ParkedKey, handler func(context.Context, inbox.Message) error,
) (inboxloop.Retried, error) {
	return f.Retry(ctx, key, func(ctx context.Context, _ pgx.Tx, m inbox.Message) error { return handler(ctx, m) })
}

func (f *fakeInbox) RetryFailed(_ context.Context, key inboxloop.ParkedKey, why error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.away != nil {
		return f.away
	}
	delete(f.asked, keyOf(key.Topic, key.Key))
	f.failed[keyOf(key.Topic, key.Key)] = why
	return nil
}

func (f *fakeInbox) Claim(_ context.Context, keep time.Duration, _ ...string) ([]inboxloop.OtherClaim, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retained = append(f.retained, keep)
	return nil, f.away
}

// kept is the retention that was set last.
func (f *fakeInbox) kept() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.retained[len(f.retained)-1]
}

// ofKeys are the payloads of the effects of each key, in order.
func (f *fakeInbox) ofKeys() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string][]string{}
	for _, m := range f.effects {
		all[string(m.Key)] = append(all[string(m.Key)], string(m.Payload))
	}
	return all
}

func (f *fakeInbox) parkedMessages() []parkedMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.parked)
}

func (f *fakeInbox) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.effects)
}

// Check as inbox.Inbox has it.
func (f *fakeInbox) Check(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

// Incarnation as inbox.Inbox has it; a fake never crashes.
func (f *fakeInbox) Incarnation(context.Context) (inboxloop.Incarnation, error) {
	return inboxloop.Incarnation{}, f.out()
}

// Bind as inbox.Inbox has it.
func (f *fakeInbox) Bind(ctx context.Context, _ inboxloop.Incarnation) context.Context { return ctx }

// Flush as inbox.Inbox has it.
func (f *fakeInbox) Flush(context.Context, inboxloop.Incarnation) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.away
}

func (f *fakeInbox) Sweep(context.Context) (inbox.Swept, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweeps++
	return inbox.Swept{Deleted: 1}, f.away
}
