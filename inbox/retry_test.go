package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// raise fails with the SQLSTATE as Postgres would.
func raise(ctx context.Context, tx transaction, state string) error {
	return tx.exec(ctx, fmt.Sprintf("DO $$ BEGIN RAISE EXCEPTION 'made up' USING ERRCODE = '%s'; END $$", state))
}

func TestWhatAnotherTransactionBrokeOffIsRunAgain(t *testing.T) {
	each(t, func(w *world) {
		for _, state := range []string{"40001", "40P01"} {
			calls := 0
			w.want(inbox.Processed, w, message(state, "k"), func(ctx context.Context, tx transaction) error {
				if calls++; calls < 4 {
					return fmt.Errorf("pay: %w", errors.Join(write(ctx, tx, "half"), raise(ctx, tx, state)))
				}
				return write(ctx, tx, state)
			})
			equal(w, "calls", calls, 4)
		}
		calls := 0
		w.wantBatch("processed processed", func(ctx context.Context, tx transaction, messages []inbox.Message) error {
			equal(w, "messages", len(messages), 2) // all of them again, and not in halves
			if calls++; calls == 1 {
				return raise(ctx, tx, "40001")
			}
			return effects(ctx, tx, messages)
		}, batchOf("1 a", "2 b")...)
		w.wantEffects("40001", "40P01", "1", "2")
	})
}

func TestRetriesHaveAnEnd(t *testing.T) {
	each(t, func(w *world) {
		for retries, want := range map[int]int{-1: 1, 2: 3} {
			b, calls := w.process(func(c *inbox.Config) { c.Reruns = retries }), 0
			result, err := b.Handle(w.Context(), message("1", "k"), func(ctx context.Context, tx transaction) error {
				calls++
				return raise(ctx, tx, "40001")
			})
			if result != inbox.Failed || err == nil {
				w.Fatal(result, err)
			}
			w.wantOrdinary(err)
			equal(w, "calls", calls, want)
		}
		w.wantEmpty()
	})
}

func TestARealDeadlockIsRunAgain(t *testing.T) {
	each(t, func(w *world) {
		var meet [2]chan struct{}
		for n := range meet {
			meet[n] = make(chan struct{})
		}
		var calls atomic.Int32
		transfer := func(n int, from, to string) handler {
			first := true
			return func(ctx context.Context, tx transaction) error {
				calls.Add(1)
				if err := tx.exec(ctx, "UPDATE accounts SET balance = balance - 10 WHERE id = $1", from); err != nil {
					return err
				}
				if first {
					first = false
					close(meet[n])
					<-meet[1-n]
				}
				return tx.exec(ctx, "UPDATE accounts SET balance = balance + 10 WHERE id = $1", to)
			}
		}
		one := w.handling(w, message("1", "a"), transfer(0, "alice", "bob"))
		two := w.handling(w, message("2", "b"), transfer(1, "bob", "alice"))
		for _, done := range []<-chan outcome{one, two} {
			if got := soon(w, done); got.result != inbox.Processed || got.err != nil {
				w.Fatal(got)
			}
		}
		if n := calls.Load(); n < 3 { // they may meet again
			w.Errorf("%d calls: there was no deadlock", n)
		}
		w.wantRows("SELECT id || ' ' || balance FROM accounts ORDER BY id", "alice 100", "bob 0")
	})
}

// The isolation of the session is the user's choice.
func TestEveryIsolationWorks(t *testing.T) {
	for _, isolation := range []string{"repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			each(t, func(w *world) {
				b := w.processAt(w.with("default_transaction_isolation", isolation), 4, nil)
				first, m := newGate(), message("1", "k")
				one := w.handling(w, m, first.handle(effect("1")))
				soon(w, first.running)
				two := w.handling(b, m, never)
				w.untilWaiting(1)
				first.letGo <- nil
				if got := soon(w, one); got.err != nil {
					w.Fatal(got)
				}
				if got := soon(w, two); got.result != inbox.Duplicate || got.err != nil {
					w.Fatal(got)
				}
				got, err := b.HandleBatch(w.Context(), batchOf("1 k", "never2 p", "3 p", "4 q"), effectsBut(nil))
				if results(got) != "duplicate parked parked processed" || err != nil {
					w.Fatal(results(got), err)
				}
				key := w.request()
				arrival, err := w.begin(w.Context())
				if err != nil {
					w.Fatal(err)
				}
				for _, id := range []string{"never2", "3"} {
					if got := w.retry(b, key); got.Message.ID != id || got.err != nil {
						w.Fatalf("%+v", got)
					}
				}
				if result, err := w.Accept(w.Context(), arrival, message("5", "p")); result != inbox.Parked || err != nil {
					w.Fatal(result, err)
				}
				release := background(func() retryOutcome { return w.retry(b, key) })
				w.untilWaiting(1)
				if err := arrival.commit(w.Context()); err != nil {
					w.Fatal(err)
				}
				if got := soon(w, release); got.err != nil || !got.Left {
					w.Fatalf("released under an arrival: %+v", got)
				}
				once, err := b.RetryAtMostOnce(w.Context(), key, func(context.Context, inbox.Message) error { return nil })
				if once.Result != inbox.Processed || err != nil {
					w.Fatalf("%+v, %v", once, err)
				}
				equal(w, "claims", w.count("inbox_claims"), 0)
				w.wantEffects("1", "4", "never2", "3")
			})
		})
	}
}
