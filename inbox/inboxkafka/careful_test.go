package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
)

// After a crash every message is recorded before it begins; one that was begun before runs alone,
// and one that was begun too often is parked without being begun.
func TestAfterACrashMessagesBeginWithCare(t *testing.T) {
	for name, batch := range map[string]int{"one by one": 1, "in batches": 10} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			r.sendMany(50, 0, "a", "b", "c", "d", "e")
			r.sendMany(50, 1, "f", "g", "h")
			source := "shop\x00"
			r.inbox.sessions[schedule.TopicPartition{Topic: topic, Number: 0}] = "crashed"
			r.inbox.started[source+"m-5"] = 1
			r.inbox.started[source+"m-11"] = 2
			r.inbox.started[source+"m-22"] = 3
			var inFlight atomic.Int64
			var mu sync.Mutex
			company := map[string]int64{}
			cfg := r.config()
			cfg.Batch = batch
			cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
				others := inFlight.Add(1) - 1
				for range 200 {
					runtime.Gosched() // work, so that others would meet it
				}
				mu.Lock()
				defer mu.Unlock()
				company[m.ID] = max(others, inFlight.Add(-1))
				return nil
			}
			c := r.start(cfg)
			eventually(t, "all decided", func() bool { return r.committed(0) == 50 && r.committed(1) == 50 })
			if err := c.end(); err != nil {
				t.Fatal(err)
			}
			for _, id := range []string{"m-5", "m-11"} {
				if n, handled := company[id]; !handled || n != 0 {
					t.Errorf("suspect %s: handled %v, beside %d others", id, handled, n)
				}
			}
			if _, handled := company["m-22"]; handled {
				t.Error("a message that ended the process three times was begun once more")
			}
			if len(r.inbox.parked) == 0 || r.inbox.parked[0].ID != "m-22" || r.inbox.parked[0].cause != inbox.CauseCrash ||
				r.inbox.parked[0].attempts != 3 {
				t.Errorf("parked: %+v", r.inbox.parked)
			}
			for _, p := range r.inbox.parked[1:] {
				if p.cause != inbox.CauseBehind || string(p.Key) != "c" {
					t.Errorf("parked %s of key %s: %s", p.ID, p.Key, p.cause)
				}
			}
			began := map[string]bool{}
			for _, call := range r.inbox.began {
				for _, m := range call {
					if began[m.ID] {
						t.Errorf("%s was recorded twice", m.ID)
					}
					began[m.ID] = true
				}
				if batch == 1 && len(call) != 1 {
					t.Errorf("%d messages were recorded of which one began", len(call))
				}
			}
			for n := range 50 {
				if id := fmt.Sprintf("m-%d", n); !began[id] && id != "m-22" {
					t.Errorf("%s began without a record", id)
				}
			}
			for n := 50; n < 100; n++ {
				if id := fmt.Sprintf("m-%d", n); began[id] {
					t.Errorf("%s of the partition that did not crash was recorded", id)
				}
			}
			for id := range r.inbox.started {
				t.Errorf("the record of %q stays", id)
			}
		})
	}
}

// Care ends with what the process before may have had in flight.
func TestCareIsBounded(t *testing.T) {
	r := newRig(t, 1)
	r.inbox.sessions[schedule.TopicPartition{Topic: topic, Number: 0}] = "crashed"
	for n := range 30 { // handled before the crash, and not committed
		r.inbox.marks["shop\x00m-"+fmt.Sprint(n)] = true
	}
	cfg := r.config()
	cfg.MaxRecords = 64
	r.sendMany(300, 0, "a", "b")
	c := r.start(cfg)
	eventually(t, "all decided", func() bool { return r.committed(0) == 300 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
	began := 0
	for _, call := range r.inbox.began {
		began += len(call)
	}
	if began < 64 || began > 64+30 {
		t.Errorf("%d messages began with care, want 64 beside those that were handled before", began)
	}
	if skipped := c.Stats().Skipped; skipped != 30 {
		t.Errorf("%d were skipped, want 30", skipped)
	}
}

// A retry runs through a key in order while new messages of it come in; then the key is as any
// other.
func TestRetryWhileMessagesArrive(t *testing.T) {
	r := newRig(t, 1)
	var mended atomic.Bool
	cfg := r.config()
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "ill" && !mended.Load() {
			return inbox.Permanent(errors.New("no such account"))
		}
		return nil
	}
	r.start(cfg)
	r.sendMany(40, 0, "ill", "well")
	eventually(t, "the first ones", func() bool { return r.committed(0) == 40 })
	mended.Store(true)
	r.inbox.ask(topic, []byte("ill"))
	r.sendMany(100, 0, "ill", "well")
	r.awaitEffects()
	eventually(t, "the end of the request", func() bool { keys, _ := r.inbox.Requested(t.Context(), 1); return len(keys) == 0 })
	r.sendMany(10, 0, "ill")
	r.awaitEffects()
}

// A retry that fails again is tried as often as any message, and then given up: the key stays
// parked.
func TestRetryThatFailsIsGivenUp(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		calls int64
	}{
		"transient": {errors.New("not yet"), 3},
		"permanent": {inbox.Permanent(errors.New("never")), 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1)
			var calls atomic.Int64
			cfg := r.config()
			cfg.Attempts = 3
			cfg.Handler = func(context.Context, pgx.Tx, inbox.Message) error { calls.Add(1); return test.err }
			c := r.start(cfg)
			r.sendMany(2, 0, "ill")
			eventually(t, "parked", func() bool { return r.committed(0) == 2 })
			calls.Store(0)
			r.inbox.ask(topic, []byte("ill"))
			eventually(t, "given up", func() bool { return c.Stats().RetriesFailed == 1 })
			eventually(t, "the record of it", func() bool {
				r.inbox.mu.Lock()
				defer r.inbox.mu.Unlock()
				return errors.Is(r.inbox.failed[keyOf(topic, []byte("ill"))], test.err) && len(r.inbox.asked) == 0
			})
			if err := c.end(); err != nil {
				t.Fatal(err)
			}
			if calls.Load() != test.calls || len(r.inbox.parked) != 2 {
				t.Errorf("%d calls, want %d; %d parked", calls.Load(), test.calls, len(r.inbox.parked))
			}
		})
	}
}

// A group that begins at the beginning skips what was handled, without a transaction each, and
// commits its offsets.
func TestReplaySkipsWhatWasHandled(t *testing.T) {
	r := newRig(t, 2)
	r.sendMany(2000, 0, "a", "b", "c")
	r.sendMany(500, 1, "d")
	first := r.start(r.config())
	r.awaitEffects()
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	if err := r.resetGroup(2); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	cfg := r.config()
	cfg.Handler = func(context.Context, pgx.Tx, inbox.Message) error { calls.Add(1); return nil }
	again := r.start(cfg)
	r.sendMany(100, 0, "a")
	r.awaitEffects()
	eventually(t, "the offsets", func() bool { return r.committed(0) == 2100 && r.committed(1) == 500 })
	if calls.Load() != 100 {
		t.Errorf("%d messages were handled again", calls.Load()-100)
	}
	if s := again.Stats(); s.Skipped != 2500 || s.Duplicates != 0 {
		t.Errorf("%d were skipped and %d were duplicates, want 2500 and 0", s.Skipped, s.Duplicates)
	}
}

// Partitions that were paused go on once there is room, wherever the room comes from: from messages
// that were only looked up, and from other partitions.
func TestPausedPartitionsGoOnInAReplay(t *testing.T) {
	r := newRig(t, 4)
	for p := range int32(4) {
		r.sendMany(1500, p, key(p, 0), key(p, 1), key(p, 2))
	}
	cfg := r.config()
	first := r.start(cfg)
	r.awaitEffects()
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	if err := r.resetGroup(4); err != nil {
		t.Fatal(err)
	}
	cfg.MaxRecords = 200
	again := r.start(cfg)
	for p := range int32(4) {
		eventually(t, "the offset", func() bool { return r.committed(p) == 1500 })
	}
	if s := again.Stats(); s.Skipped+s.Duplicates != 6000 || s.Processed != 0 {
		t.Errorf("%d skipped, %d duplicates, %d processed", s.Skipped, s.Duplicates, s.Processed)
	}
}
