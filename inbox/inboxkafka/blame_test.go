package inboxkafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/internal/transact"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
)

// slowBatches is an inbox whose batches are never done in time, for the sake of one message.
type slowBatches struct{ *fakeInbox }

func (s slowBatches) HandleBatch(
	_ context.Context, messages []inbox.Message, _ func(context.Context, pgx.Tx, []inbox.Message) error,
) ([]inbox.Outcome, error) {
	outcomes := make([]inbox.Outcome, len(messages))
	for n := range outcomes {
		outcomes[n].Err = inbox.ErrTimeout
	}
	return outcomes, nil
}

// A batch that is not done in time says nothing about any of its messages: none is parked that was
// never tried alone.
func TestBatchThatIsNotDoneInTimeCondemnsNobody(t *testing.T) {
	g := newPausing(t)
	fake := newFakeInbox()
	g.store, g.cfg.Attempts = handling[pgx.Tx]{slowBatches{fake}, Handle(nothing)}, 1
	var log bytes.Buffer
	g.log = slog.New(slog.NewTextHandler(&log, nil))
	for n := range 5 {
		g.add(inbox.Message{Source: "shop", ID: fmt.Sprint(n), Key: fmt.Append(nil, n)})
	}
	j := g.sched.Take(5)
	decisions := g.handle(j)
	for n, v := range decisions {
		if i := j.Items[n]; v.Decided || i.Parking != nil || i.Attempts != 0 || !i.Lone {
			t.Errorf("message %d: decision %+v, parking %+v, %d attempts, alone %v", n, v, i.Parking, i.Attempts, i.Lone)
		}
	}
	if len(decisions) != 5 {
		t.Errorf("a batch of %d, want 5", len(decisions))
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), "messages=5") {
		t.Errorf("%d warnings of one batch, want one that counts its messages:\n%s", n, log.String())
	}
	g.sched.Finish(j, decisions)
	alone := g.sched.Take(5)
	g.store = handling[pgx.Tx]{fake, Handle(func(context.Context, pgx.Tx, inbox.Message) error { return inbox.ErrTimeout })}
	if g.handle(alone); alone.Items[0].Parking == nil {
		t.Error("a message that was not done in time, alone, is not parked after its only attempt")
	}
}

// The first start that was recorded was in company, whatever the limit: no message is parked for
// it.
func TestOneCrashCondemnsNobody(t *testing.T) {
	r := newRig(t, 1)
	r.sendMany(20, 0, "a", "b", "c", "d")
	r.inbox.sessions[schedule.TopicPartition{Topic: topic, Number: 0}] = "crashed"
	for n := range 8 {
		r.inbox.started[fmt.Sprint("shop\x00m-", n)] = 1
	}
	r.inbox.started["shop\x00m-9"] = 2 // this one was alone since
	cfg := r.config()
	cfg.CrashLimit = 1
	c := r.start(cfg)
	eventually(t, "all decided", func() bool { return r.committed(0) == 20 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if len(r.inbox.parked) == 0 || r.inbox.parked[0].ID != "m-9" {
		t.Fatalf("parked: %+v", r.inbox.parked)
	}
	for _, p := range r.inbox.parked[1:] {
		if p.cause != inbox.CauseBehind || string(p.Key) != "b" {
			t.Errorf("parked %s of key %s: %s", p.ID, p.Key, p.cause)
		}
	}
}

// A retry of a key of a topic that is not ours is for the consumer that has its handler.
func TestRetryOfAnotherTopicIsLeftToItsConsumer(t *testing.T) {
	r := newRig(t, 1)
	for n := range 30 {
		m := inbox.Message{Source: "shop", ID: fmt.Sprint("foreign-", n), Topic: "payments", Key: fmt.Append(nil, n)}
		r.inbox.enqueue(m, inbox.CauseAttempts, 1)
		r.inbox.ask("payments", m.Key)
	}
	var foreign atomic.Int64
	var mended atomic.Bool
	cfg := r.config()
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if m.Topic != topic {
			foreign.Add(1)
		}
		if !mended.Load() {
			return inbox.Permanent(errors.New("no"))
		}
		return nil
	}
	c := r.start(cfg)
	r.sendMany(3, 0, "ill")
	eventually(t, "parked", func() bool { return r.committed(0) == 3 })
	mended.Store(true)
	r.inbox.ask(topic, []byte("ill"))
	r.awaitEffects()
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if n := foreign.Load(); n != 0 || len(r.inbox.parked) != 30 {
		t.Errorf("%d messages of another topic were handed to this handler; %d are parked, want 30", n, len(r.inbox.parked))
	}
}

// A retry of effects holds one connection while it takes another: several at once could hold all
// and wait forever.
func TestRetriesOfEffectsAreOneAtATime(t *testing.T) {
	r := newRig(t, 1)
	var inFlight, most, calls atomic.Int64
	cfg := r.config()
	cfg.Handler = nil
	cfg.AtMostOnce = func(context.Context, inbox.Message) error {
		n := inFlight.Add(1)
		defer inFlight.Add(-1)
		calls.Add(1)
		for most.Load() < n && !most.CompareAndSwap(most.Load(), n) {
			runtime.Gosched()
		}
		return transact.Pause(t.Context(), 3*cfg.RetryInterval) // others are asked for meanwhile
	}
	for n := range 3 {
		m := inbox.Message{Source: "shop", ID: fmt.Sprint("p-", n), Topic: topic, Key: fmt.Append(nil, n)}
		r.inbox.enqueue(m, inbox.CauseAttempts, 1)
		r.inbox.ask(topic, m.Key)
	}
	c := r.start(cfg)
	eventually(t, "all retried", func() bool { return calls.Load() == 3 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if most.Load() != 1 {
		t.Errorf("%d retries at once, want 1", most.Load())
	}
}

// mute is an inbox whose session does not open and does not give up, as if COMMIT is never
// answered.
type mute struct {
	*fakeInbox
	asked, letGo chan struct{}
}

func (m mute) Open(context.Context, string, int32) (bool, error) {
	close(m.asked)
	<-m.letGo
	return false, nil
}

// The end of Run does not wait for a session that does not open.
func TestShutdownDoesNotWaitForASession(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	cfg.DrainTimeout = 50 * time.Millisecond
	store := mute{r.inbox, make(chan struct{}), make(chan struct{})}
	c, err := cfg.open(store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-store.asked
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(15 * time.Second):
		t.Error("Run waits for a session")
	}
	close(store.letGo)
}
