package inbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// Each call is made by a process that freezes before its COMMIT, with its locks: Postgres ends its
// session. What comes through the network then ends the call too; a session that went on would keep
// it for longer than soon waits.
func TestAFrozenProcessHoldsNobodyUpForLong(t *testing.T) {
	each(t, func(w *world) {
		x, url := w.throughWire()
		frozen := w.processAt(url, 2, nil)
		frozen.SetIdle(600 * time.Millisecond)
		if _, err := frozen.Open(w.Context(), "orders", 7); err != nil {
			w.Fatal(err)
		}
		since := w.incarnation(frozen)
		w.park(message("parked", "k"))
		key := w.request()
		fine := func(context.Context) error { return nil }
		for _, call := range []struct {
			name string
			make func(ctx context.Context) error
		}{
			{"Open", func(ctx context.Context) error { _, err := frozen.Open(ctx, "orders", 4); return err }},
			{"Close", func(ctx context.Context) error { return frozen.Close(ctx, "orders", 7) }},
			{"Flush", func(ctx context.Context) error { return frozen.Flush(ctx, since) }},
			{"Start", func(ctx context.Context) error {
				_, err := frozen.Start(ctx, []inbox.Message{message("1", "a")})
				return err
			}},
			{"Park", func(ctx context.Context) error {
				_, err := frozen.Park(ctx, message("2", "a"), inbox.CausePermanent, 1, errors.New("no"))
				return err
			}},
			{"AtMostOnce", func(ctx context.Context) error { _, err := frozen.AtMostOnce(ctx, message("3", "b"), fine); return err }},
			{"RetryFailed", func(ctx context.Context) error { return frozen.RetryFailed(ctx, key, errors.New("no")) }},
			{"Retry", func(ctx context.Context) error { // the record of its start
				_, err := frozen.Retry(ctx, key, retried)
				return err
			}},
			{"Retain", func(ctx context.Context) error { return frozen.Retain(ctx, time.Hour) }},
			{"Sweep", func(ctx context.Context) error { _, err := frozen.Sweep(ctx); return err }},
		} {
			// If the session ends before that, on a machine that is busy, once more.
			w.until(call.name+" freezes before its COMMIT", func() bool {
				before := x.freeze(true)
				err := soon(w, background(func() error { return call.make(w.Context()) }))
				return x.freeze(false) > before && inbox.IsUnavailable(err)
			})
		}
		// Nothing is left, and the same process goes on.
		w.want(inbox.Processed, frozen, message("1", "a"), effect("1"))
	})
}

// The functions that lock the whole table bound themselves, for people who call them in psql.
func TestAFunctionOfTheWeeksBoundsItsTransaction(t *testing.T) {
	each(t, func(w *world) {
		tx, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		var idle string
		err = tx.exec(w.Context(), "SELECT inbox_drop_weeks()")
		err = errors.Join(err, tx.scan(w.Context(), &idle, "SELECT current_setting('idle_in_transaction_session_timeout')"))
		err = errors.Join(err, tx.rollback(w.Context()))
		if err != nil || idle != "5s" {
			w.Fatalf("%q, %v", idle, err)
		}
	})
}

// A handler has bounds too, which it may have made narrower.
func TestAHandlersTransactionIsBounded(t *testing.T) {
	each(t, func(w *world) {
		own := w.processAt(w.with("options", "-c statement_timeout=7s"), 1, nil)
		for n, test := range []struct {
			b    box
			want string
		}{{w, "30s 25s"}, {own, "7s 25s"}} {
			look := func(ctx context.Context, tx transaction) error {
				var got string
				err := tx.scan(ctx, &got, "SELECT current_setting('statement_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout')")
				if err == nil && got != test.want {
					w.Errorf("%s, want %s", got, test.want)
				}
				return err
			}
			key := string(rune('a' + n))
			w.want(inbox.Processed, test.b, message("1"+key, key), look)
			outcomes, err := test.b.HandleBatch(w.Context(), batchOf("2"+key+" "+key),
				func(ctx context.Context, tx transaction, _ []inbox.Message) error { return look(ctx, tx) })
			if results(outcomes) != "processed" || err != nil {
				w.Fatal(outcomes, err)
			}
			w.park(message("3"+key, key))
			_, err = test.b.Retry(w.Context(), w.request(), func(ctx context.Context, tx transaction, _ inbox.Message) error { return look(ctx, tx) })
			if err != nil {
				w.Fatal(err)
			}
			w.do("DELETE FROM inbox_parked; DELETE FROM inbox_parked_keys")
		}
	})
}
