package inboxkafka_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// outages are what a handler may do for one message that looks like an outage of everything.
var outages = map[string]func(context.Context, pgx.Tx) error{
	"a SQLSTATE of the server": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53400'; END $$")
		return err
	},
	"a connection that it ends": func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
		return err
	},
	"its word": func(context.Context, pgx.Tx) error { return inbox.Unavailable(errors.New("the bank is closed")) },
}

// Whatever one message does, all others have their effects, and as long as others come it is parked
// in the end.
func TestOneMessageThatLooksLikeAnOutageStopsNobody(t *testing.T) {
	const bad = "m-0010"
	for name, fail := range outages {
		for how, batch := range map[string]int{"one by one": 1, "in batches": 50} {
			if batch > 1 && name == "its word" {
				continue // to the loop it is what a connection is that ends
			}
			t.Run(name+", "+how, func(t *testing.T) {
				s := newService(t)
				var calls atomic.Int64
				produce(s.brokers, messages(0, 120, "a", "b", "c", "d", "e", "f")...)
				_, _ = s.run(inboxkafka.Handle(func(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
					if m.ID == bad {
						calls.Add(1)
						return fail(ctx, tx)
					}
					return record(ctx, tx, m)
				}), inboxkafka.Config{Attempts: 3, Batch: batch})
				// m-0010 is the second message of key e: one before it, 18 behind it.
				s.await("the effects of the others", s.effects(100+1))
				more := 120
				s.await("the bad one parked", func() bool {
					more++ // unknown while nothing else is there
					produce(s.brokers, messages(more, 1, "z")...)
					return s.scalar("SELECT count(*) FROM inbox_parked WHERE msg_id = $1 AND cause = 'attempts'", bad) == 1
				})
				s.await("its key behind it", func() bool { return s.scalar("SELECT count(*) FROM inbox_parked WHERE cause = 'behind'") == 18 })
				s.checkOrder()
				t.Logf("it was tried %d times", calls.Load())
				if n := calls.Load(); n > 40 {
					t.Errorf("it was tried %d times, with 3 attempts", n)
				}
			})
		}
	}
}

// The other side is unavailable for the first calls: every effect is begun once it is back, and
// none is taken for one that may have happened.
func TestEffectsWaitForTheOtherSide(t *testing.T) {
	s := newService(t)
	var calls atomic.Int64
	var mu sync.Mutex
	sent := map[string]int{}
	produce(s.brokers, messages(0, 60, "a", "b", "c", "d", "e", "f")...)
	_, _ = s.run(inboxkafka.AtMostOnce[pgx.Tx](func(_ context.Context, m inbox.Message) error {
		if calls.Add(1) <= 12 {
			return inbox.Unavailable(errors.New("connection refused"))
		}
		mu.Lock()
		defer mu.Unlock()
		sent[m.ID]++
		return nil
	}), inboxkafka.Config{Workers: 4})
	s.await("all marks", func() bool {
		return s.scalar("SELECT count(*) FROM inbox") == 60 && s.scalar("SELECT count(*) FROM inbox_claims") == 0
	})
	mu.Lock()
	defer mu.Unlock()
	for id, n := range sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	if n := s.scalar("SELECT count(*) FROM inbox_audit") + s.scalar("SELECT count(*) FROM inbox_parked"); len(sent) != 60 || n != 0 {
		t.Errorf("%d of 60 were sent; %d are in the audit or parked", len(sent), n)
	}
}
