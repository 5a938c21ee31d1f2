package inboxkafka

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// The key of a handler that hangs waits; all others go on; Run ends in time and commits nothing
// beyond it.
func TestHangingHandlerHoldsItsKeyOnly(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	cfg.DrainTimeout = 200 * time.Millisecond
	cfg.Handler = func(ctx context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "stuck" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	r.sendMany(10, 0, "first")
	r.sendMany(3, 0, "stuck")
	r.sendMany(300, 0, "a", "b", "c")
	c := r.start(cfg)
	eventually(t, "the others", func() bool { return r.inbox.count() == 310 })
	eventually(t, "the watermark before the stuck one", func() bool { return r.committed(0) == 10 })
	began := time.Now()
	if err := c.end(); !errors.Is(err, ErrDrain) {
		t.Fatalf("Run returned %v, want ErrDrain", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the shutdown took %v", took)
	}
	if got := r.committed(0); got != 10 {
		t.Errorf("offset %d is committed, want 10: the message there is not done", got)
	}
	if n := r.inbox.count(); n != 310 {
		t.Errorf("%d effects, want 310", n)
	}
}

// What is in flight when Run is to end is waited for, and committed.
func TestShutdownWaitsForWhatIsInFlight(t *testing.T) {
	r := newRig(t, 1)
	begun, release := make(chan struct{}), make(chan struct{})
	cfg := r.config()
	cfg.CommitInterval = time.Hour
	cfg.Handler = func(context.Context, pgx.Tx, inbox.Message) error {
		close(begun)
		<-release
		return nil
	}
	r.sendMany(2, 0, "a") // the second one does not begin
	c := r.start(cfg)
	<-begun
	c.stop()
	eventually(t, "the drain", func() bool {
		taken, begins := c.sched.Enter(t.Context(), schedule.Slot{})
		if begins {
			c.sched.Leave(taken)
		}
		return !begins
	})
	close(release)
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if r.inbox.count() != 1 || r.committed(0) != 1 {
		t.Errorf("%d effects and offset %d, want 1 and 1", r.inbox.count(), r.committed(0))
	}
	if len(r.inbox.sessions) != 0 {
		t.Errorf("sessions were left open: %v", r.inbox.sessions)
	}
}

// A message that fails is tried again, its key waits in order, and others go on; after the last
// attempt it is parked, and the rest of its key behind it.
func TestFailuresAreTriedAgainAndThenParked(t *testing.T) {
	for name, batch := range map[string]int{"one by one": 1, "in batches": 20} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			var calls sync.Map
			cfg := r.config()
			cfg.Attempts, cfg.Batch = 4, batch
			cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
				n, _ := calls.LoadOrStore(m.ID, new(atomic.Int64))
				tries := n.(*atomic.Int64).Add(1)
				switch {
				case string(m.Key) == "bad" && string(m.Payload) == r.want["bad"][1]:
					return errors.New("never")
				case string(m.Key) == "slow" && tries < 3:
					return errors.New("not yet")
				case string(m.Key) == "refused":
					return inbox.Permanent(errors.New("no such account"))
				}
				return nil
			}
			r.sendMany(3, 0, "bad")
			r.sendMany(2, 0, "slow")
			r.sendMany(2, 0, "refused")
			r.sendMany(60, 0, "a", "b", "c")
			c := r.start(cfg)
			eventually(t, "all decided", func() bool { return r.committed(0) == int64(r.sent) })
			if err := c.end(); err != nil {
				t.Fatal(err)
			}
			var parked []string
			for _, p := range r.inbox.parked {
				parked = append(parked, string(p.Key)+" "+string(p.cause))
			}
			slices.Sort(parked)
			want := []string{"bad attempts", "bad behind", "refused behind", "refused permanent"}
			if !slices.Equal(parked, want) {
				t.Errorf("parked %v, want %v", parked, want)
			}
			r.want["bad"] = r.want["bad"][:1]
			delete(r.want, "refused")
			r.checkEffects()
			stats := c.Stats()
			if stats.Processed != int64(r.inbox.count()) || stats.Parked != 4 {
				t.Errorf("stats: %+v", stats)
			}
		})
	}
}

// A record without an identity is parked under its place, and its key behind it.
func TestRecordWithoutIdentityIsParked(t *testing.T) {
	r := newRig(t, 1)
	first, bad, last := r.record(0, "a"), r.record(0, "a"), r.record(0, "a")
	bad.Headers = []kgo.RecordHeader{{Key: "source", Value: []byte("shop")}}
	r.send(first, bad, last)
	c := r.start(r.config())
	eventually(t, "all decided", func() bool { return r.committed(0) == 3 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	if len(r.inbox.parked) != 2 {
		t.Fatalf("parked: %+v", r.inbox.parked)
	}
	p := r.inbox.parked[0]
	if p.cause != inbox.CauseIdentity || p.Source != "orders:0" || !strings.HasPrefix(p.ID, "1@") || string(p.Key) != "a" {
		t.Errorf("parked %s %s %s %s", p.cause, p.Source, p.ID, p.Key)
	}
	if p := r.inbox.parked[1]; p.cause != inbox.CauseBehind {
		t.Errorf("the next one of the key is parked for %s, want behind", p.cause)
	}
}

// While the database is unavailable nothing begins, no attempt is counted and the group keeps the
// process.
func TestDatabaseAway(t *testing.T) {
	r := newRig(t, 2)
	var failures, paused, resumed, revoked atomic.Int64
	cfg := r.config()
	cfg.Attempts = 2
	cfg.Hooks = Hooks{
		Failed:  func(context.Context, inbox.Message, int, time.Duration, error) { failures.Add(1) },
		Paused:  func(context.Context, error) { paused.Add(1) },
		Resumed: func(context.Context, time.Duration) { resumed.Add(1) },
		Revoked: func(context.Context, string, int32, bool) { revoked.Add(1) },
	}
	c := r.start(cfg)
	r.sendMany(100, 0, "a", "b")
	r.awaitEffects()
	r.inbox.setAway(true)
	r.sendMany(100, 0, "a", "b")
	r.sendMany(100, 1, "c", "d")
	eventually(t, "the pause", func() bool { return !c.Stats().PausedSince.IsZero() })
	before, generation := c.client.GroupMetadata()
	// Longer than the session timeout: without heartbeats the group would have dropped it.
	deadline := time.Now().Add(2500 * time.Millisecond)
	eventually(t, "the session timeout to pass", func() bool { return time.Now().After(deadline) })
	if held := c.Stats().Held; held > 200 {
		t.Errorf("%d records are held", held)
	}
	r.inbox.setAway(false)
	r.awaitEffects()
	eventually(t, "resumed", func() bool { return c.Stats().PausedSince.IsZero() })
	if member, now := c.client.GroupMetadata(); member != before || now != generation {
		t.Errorf("member %s of generation %d became %s of %d", before, generation, member, now)
	}
	if failures.Load() != 0 || paused.Load() == 0 || resumed.Load() != paused.Load() || revoked.Load() != 0 {
		t.Errorf("%d failures, %d pauses, %d resumed, %d revoked", failures.Load(), paused.Load(), resumed.Load(), revoked.Load())
	}
	if len(r.inbox.parked) != 0 {
		t.Errorf("parked: %+v", r.inbox.parked)
	}
}

// An effect that no transaction undoes is left to the inbox to claim.
func TestAtMostOnce(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	var calls atomic.Int64
	cfg.Handler = nil
	cfg.AtMostOnce = func(context.Context, inbox.Message) error { calls.Add(1); return nil }
	r.sendMany(50, 0, "a", "b")
	c := r.start(cfg)
	r.awaitEffects()
	if err := c.end(); err != nil || calls.Load() != 50 {
		t.Errorf("%d calls, want 50; %v", calls.Load(), err)
	}
}
