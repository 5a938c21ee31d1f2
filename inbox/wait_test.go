package inbox_test

import (
	"context"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// gate is a handler that says when it runs and goes on when it is let.
type gate struct {
	running chan struct{}
	letGo   chan error
}

func newGate() gate { return gate{make(chan struct{}), make(chan error)} }

func (g gate) handle(then handler) handler {
	return func(ctx context.Context, tx transaction) error {
		close(g.running)
		if err := <-g.letGo; err != nil {
			return err
		}
		return then(ctx, tx)
	}
}

func TestAConcurrentDuplicateWaitsForTheFirstAndSeesItsOutcome(t *testing.T) {
	each(t, func(w *world) {
		for name, c := range map[string]struct {
			end    error
			second inbox.Result
		}{
			"commits":    {nil, inbox.Duplicate},
			"rolls-back": {errors.New("card declined"), inbox.Processed},
		} {
			w.do("TRUNCATE effects")
			first, m := newGate(), message(name, "k")
			one := w.handling(w, m, first.handle(effect("first")))
			soon(w, first.running)
			two := w.handling(w.process(nil), m, effect("second"))
			three := background(func() outcome {
				outcomes, err := w.process(nil).HandleBatch(w.Context(), batchOf("other"+name+" a", name+" k"), effects)
				return outcome{outcomes[1].Result, err}
			})
			w.untilWaiting(2)
			first.letGo <- c.end
			if got := soon(w, one); (got.err == nil) != (c.end == nil) {
				w.Fatal(got)
			}
			second, third := soon(w, two), soon(w, three)
			if second.err != nil || third.err != nil {
				w.Fatal(second, third)
			}
			if c.end == nil {
				equal(w, name, []inbox.Result{second.result, third.result}, []inbox.Result{inbox.Duplicate, inbox.Duplicate})
				equal(w, "effects", w.count("effects WHERE msg = 'first'"), 1)
				continue
			}
			// One of the two is the next first, and the other its duplicate.
			equal(w, "results", second.result+third.result, inbox.Processed+inbox.Duplicate)
			equal(w, "effects", w.count("effects WHERE msg IN ('first', 'second', '"+name+"')"), 1)
		}
	})
}

// The insert of a mark waits for a process that parks the message. What comes behind it in the
// batch must see that.
func TestABatchThatWaitsForAMessageThatIsParkedParksWhatComesBehind(t *testing.T) {
	each(t, func(w *world) {
		tx, err := w.eye.Begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		defer func() { _ = tx.Rollback(context.WithoutCancel(w.Context())) }() // after a commit this does nothing
		if _, err := tx.Exec(w.Context(), `WITH mark AS (INSERT INTO inbox VALUES ('billing', 'shop', inbox_key('m5'))),
			key AS (INSERT INTO inbox_parked_keys (consumer, topic, key) VALUES ('billing', 'orders', 'k') RETURNING id)
			SELECT set_config('test.key', id::text, true) FROM key`); err != nil {
			w.Fatal(err)
		}
		if _, err := tx.Exec(w.Context(), `INSERT INTO inbox_parked (key_id, source, msg_id, type, partition, "offset", header_names, header_values, cause)
			VALUES (current_setting('test.key')::bigint, 'shop', 'm5', '', 0, 0, '{}', '{}', 'permanent')`); err != nil {
			w.Fatal(err)
		}
		done := background(func() string {
			outcomes, err := w.HandleBatch(w.Context(), batchOf("m4 other", "m5 k", "m6 k"), effects)
			return errors.Join(errors.New(results(outcomes)), err).Error()
		})
		w.untilWaiting(1)
		if err := tx.Commit(w.Context()); err != nil {
			w.Fatal(err)
		}
		equal(w, "results", soon(w, done), "processed duplicate parked")
		w.wantQueue("m5 permanent", "m6 behind")
		w.wantEffects("m4")
	})
}

// An arrival and the release of its key exclude each other.
func TestAKeyIsNotReleasedUnderAnArrival(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "k"))
		key := w.request()
		w.wantRetried(key, "1", true)

		// The arrival was first: it is in the queue when the key is looked at.
		tx, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		result, err := w.Accept(w.Context(), tx, message("2", "k"))
		if result != inbox.Parked || err != nil {
			w.Fatal(result, err)
		}
		done := background(func() retryOutcome { return w.retry(w.process(nil), key) })
		w.untilWaiting(1)
		if err := tx.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
		if got := soon(w, done); got.err != nil || !got.Left || got.Message.ID != "" {
			w.Fatalf("%+v", got)
		}
		w.wantQueue("2 behind")
		w.wantRetried(key, "2", true)

		// The release is first: the arrival waits, and is handled.
		lock, err := w.eye.Begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if _, err := lock.Exec(w.Context(), "DELETE FROM inbox_parked_keys"); err != nil {
			w.Fatal(err)
		}
		arrival := w.handling(w, message("3", "k"), effect("3"))
		w.untilWaiting(1)
		if err := lock.Commit(w.Context()); err != nil {
			w.Fatal(err)
		}
		if got := soon(w, arrival); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
		w.wantEffects("1", "2", "3")
	})
}

func TestAnArrivalDoesNotWaitForARetry(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "k"))
		key, g := w.request(), newGate()
		done := background(func() retryOutcome {
			got, err := w.Retry(w.Context(), key, func(ctx context.Context, tx transaction, m inbox.Message) error {
				return g.handle(effect(m.ID))(ctx, tx)
			})
			return retryOutcome{got, err}
		})
		soon(w, g.running)
		w.want(inbox.Parked, w, message("2", "k"), never)
		if got := w.retry(w.process(nil), key); got.err != nil || !got.Busy {
			w.Fatalf("%+v", got)
		}
		g.letGo <- nil
		if got := soon(w, done); got.err != nil || got.Result != inbox.Processed {
			w.Fatalf("%+v", got)
		}
		w.wantRetried(key, "2", true)
		w.wantRetried(key, "", false)
		w.wantEffects("1", "2")
		equal(w, "records of starts", w.count("inbox_started"), 0)
	})
}

func TestTwoWhoParkTheSameMessageParkItOnce(t *testing.T) {
	each(t, func(w *world) {
		var running []<-chan outcome
		for range 6 {
			b := w.process(nil)
			running = append(running, background(func() outcome {
				result, err := b.Park(w.Context(), message("1", "k"), inbox.CauseAttempts, 3, errors.New("no such account"))
				return outcome{result, err}
			}))
		}
		parked := 0
		for _, r := range running {
			got := soon(w, r)
			if got.err != nil || got.result != inbox.Parked && got.result != inbox.Duplicate {
				w.Fatal(got)
			}
			if got.result == inbox.Parked {
				parked++
			}
		}
		equal(w, "parked", parked, 1)
		w.wantQueue("1 attempts")
		result, err := w.Park(w.Context(), message("1", "k"), inbox.CauseCrash, 9, nil)
		if result != inbox.Duplicate || err != nil {
			w.Fatal(result, err)
		}
		w.wantQueue("1 attempts")
	})
}
