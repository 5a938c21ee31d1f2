package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// incarnation is the one that the database is in.
func (w *world) incarnation(b box) inboxloop.Incarnation {
	w.Helper()
	now, err := b.Incarnation(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return now
}

// A crash empties inbox_incarnation; the crash itself is tried in package inboxkafka.
func TestNothingIsDecidedInAnotherIncarnationThanTheCallerKnows(t *testing.T) {
	each(t, func(w *world) {
		if _, err := w.Open(w.Context(), "orders", 3); err != nil {
			w.Fatal(err)
		}
		first := w.incarnation(w)
		if again := w.incarnation(w); again != first {
			w.Fatalf("%v, and then %v", first, again)
		}
		ctx := w.Bind(w.Context(), first)
		if result, err := w.Handle(ctx, message("1", "k"), effect("1")); result != inbox.Processed || err != nil {
			w.Fatal(result, err)
		}
		if err := w.Flush(w.Context(), first); err != nil {
			w.Fatal(err)
		}
		for _, begin := range []func(){
			func() {}, // the next one has not begun yet
			func() { w.incarnation(w) },
		} {
			w.do("DELETE FROM inbox_incarnation")
			begin()
			w.wantForgotten(ctx, first)
		}
		w.wantEffects("1")
		equal(w, "marks", w.count("inbox"), 1)
		next := w.Bind(w.Context(), w.incarnation(w))
		if result, err := w.Handle(next, message("1", "k"), never); result != inbox.Duplicate || err != nil {
			w.Fatal(result, err)
		}
	})
}

// wantForgotten fails the test unless every call says that its incarnation has ended.
func (w *world) wantForgotten(ctx context.Context, since inboxloop.Incarnation) {
	w.Helper()
	want := func(what string, err error) {
		w.Helper()
		if !errors.Is(err, inboxloop.ErrForgotten) || !inbox.IsUnavailable(err) {
			w.Fatalf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"1", "2"} { // seen before, and new
		_, err := w.Handle(ctx, message(id, "k"), never)
		want("Handle", err)
		_, err = w.HandleBatch(ctx, batchOf(id+" k", "3 j"), effects)
		want("HandleBatch", err)
		_, err = w.AtMostOnce(ctx, message(id, "k"), func(context.Context) error { w.Error("the effect was begun"); return nil })
		want("AtMostOnce", err)
		_, err = w.Park(ctx, message(id, "k"), inbox.CausePermanent, 1, errors.New("no"))
		want("Park", err)
		_, err = w.Seen(ctx, []inbox.Message{message(id, "k")})
		want("Seen", err)
		tx, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		_, err = w.Accept(ctx, tx, message(id, "k"))
		want("Accept", err)
		if err := tx.rollback(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
	want("Flush", w.Flush(w.Context(), since))
	want("Flush since never", w.Flush(w.Context(), inboxloop.Incarnation{}))
}

// A handler may use two inboxes in two databases.
func TestAContextIsBoundForOneInboxOnly(t *testing.T) {
	each(t, func(w *world) {
		other := w.process(nil)
		ctx := w.Bind(w.Context(), inboxloop.Incarnation{})
		if result, err := other.Handle(ctx, message("1", "k"), effect("1")); result != inbox.Processed || err != nil {
			w.Fatal(result, err)
		}
	})
}

func TestATableThatOutlivesACrashTellsOfNone(t *testing.T) {
	each(t, func(w *world) {
		w.do("ALTER TABLE inbox_incarnation SET LOGGED")
		if _, err := w.Incarnation(w.Context()); !errors.Is(err, inbox.ErrSchema) || !strings.Contains(err.Error(), "SET UNLOGGED") {
			w.Fatal(err)
		}
	})
}
