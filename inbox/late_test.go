package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// half is a handler that books the debit, waits for the end of its context, tries the credit,
// swallows the error of that, and returns nil.
func half(ctx context.Context, tx transaction) error {
	if err := write(ctx, tx, "debit"); err != nil {
		return err
	}
	<-ctx.Done()
	if write(ctx, tx, "credit") == nil {
		return errors.New("a statement ran although its context had ended")
	}
	return nil
}

// halfBatch is half for a batch.
func halfBatch(ctx context.Context, tx transaction, _ []inbox.Message) error { return half(ctx, tx) }

// A statement whose context has ended is never sent, so the transaction is well, and a COMMIT would
// keep half of the effect, with the mark.
func TestNilAfterTheDeadlineIsATimeoutAndLeavesNothing(t *testing.T) {
	each(t, func(w *world) {
		b := w.process(quick)
		m := message("1", "k")
		wantLate := func(what string, result inbox.Result, err error) {
			w.Helper()
			if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) || errors.Is(err, inbox.ErrLeftBehind) {
				w.Fatalf("%s: %v, %v", what, result, err)
			}
			w.wantOrdinary(err)
			equal(w, "effects", w.count("effects"), 0)
		}
		result, err := b.Handle(w.Context(), m, half)
		wantLate("Handle", result, err)
		w.wantEmpty()
		outcomes, err := b.HandleBatch(w.Context(), []inbox.Message{m, message("2", "l")}, halfBatch)
		if err != nil {
			w.Fatal(err)
		}
		for n, o := range outcomes {
			wantLate(fmt.Sprint("HandleBatch ", n), o.Result, o.Err)
		}
		w.wantEmpty()
		w.park(m)
		retried, err := b.Retry(w.Context(), w.request(), func(ctx context.Context, tx transaction, _ inbox.Message) error {
			return half(ctx, tx)
		})
		wantLate("Retry", retried.Result, err)
		w.wantQueue("1 attempts")
	})
}

// The end of a shutdown's timeout cuts statements off like a deadline does. It says nothing about
// the message.
func TestNilAfterTheCallersEndLeavesNothing(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		cut := func(call func(ctx context.Context, h handler) (inbox.Result, error)) {
			w.Helper()
			ctx, cancel := context.WithCancel(w.Context())
			defer cancel()
			result, err := call(ctx, func(ctx context.Context, tx transaction) error {
				if err := write(ctx, tx, "debit"); err != nil {
					return err
				}
				cancel()
				if write(ctx, tx, "credit") == nil {
					return errors.New("a statement ran although its context had ended")
				}
				return nil
			})
			if result != inbox.Failed || !errors.Is(err, context.Canceled) || errors.Is(err, inbox.ErrTimeout) || inbox.IsUnavailable(err) {
				w.Fatal(result, err)
			}
			w.wantEmpty()
		}
		cut(func(ctx context.Context, h handler) (inbox.Result, error) { return w.Handle(ctx, m, h) })
		cut(func(ctx context.Context, h handler) (inbox.Result, error) {
			outcomes, err := w.HandleBatch(ctx, []inbox.Message{m}, func(ctx context.Context, tx transaction, _ []inbox.Message) error {
				return h(ctx, tx)
			})
			return outcomes[0].Result, err
		})
		w.want(inbox.Processed, w, m, effect("paid"))
		w.wantEffects("paid")
	})
}

// What an effect without a transaction did before its context ended is not known.
func TestNilOfAnEffectAfterItsDeadlineIsAudited(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		result, err := w.process(quick).AtMostOnce(w.Context(), m, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		})
		if result != inbox.Failed || !errors.Is(err, inbox.ErrTimeout) {
			w.Fatal(result, err)
		}
		w.wantMail(inbox.Audited, m, unsent)
	})
}
