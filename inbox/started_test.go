package inbox_test

import (
	"context"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

func (w *world) starts(b box, messages ...inbox.Message) []int {
	w.Helper()
	before, err := b.Start(w.Context(), messages)
	if err != nil {
		w.Fatal(err)
	}
	return before
}

func TestStartsThatDidNotEndAreCounted(t *testing.T) {
	each(t, func(w *world) {
		w.want(inbox.Processed, w, message("handled", "k"), effect("handled"))
		all := batchOf("1 a", "2 b", "1 a", "handled k")
		equal(w, "first process", w.starts(w.process(nil), all...), []int{0, 0, 0, 0})
		equal(w, "second process", w.starts(w.process(nil), all...), []int{1, 1, 1, 0})
		equal(w, "third process", w.starts(w, all...), []int{2, 2, 2, 0})
		equal(w, "records", w.count("inbox_started"), 2)
		equal(w, "none", len(w.starts(w)), 0)
	})
}

func TestTheRecordOfAStartGoesWithTheEndOfItsMessage(t *testing.T) {
	each(t, func(w *world) {
		end := map[string]func(m inbox.Message) error{
			"handled": func(m inbox.Message) error { _, err := w.Handle(w.Context(), m, effect("1")); return err },
			"failed": func(m inbox.Message) error {
				if _, err := w.Handle(w.Context(), m, func(context.Context, transaction) error { return errors.New("bad") }); err == nil {
					return errors.New("no error")
				}
				return nil
			},
			"parked at once": func(m inbox.Message) error {
				_, err := w.Handle(w.Context(), m, func(context.Context, transaction) error { return inbox.Permanent(errors.New("bad")) })
				return err
			},
			"parked behind": func(m inbox.Message) error {
				w.park(message("first "+m.ID, string(m.Key)))
				_, err := w.Handle(w.Context(), m, never)
				return err
			},
			"parked": func(m inbox.Message) error { _, err := w.Park(w.Context(), m, inbox.CauseCrash, 3, nil); return err },
			"duplicate": func(m inbox.Message) error {
				if _, err := w.process(nil).Handle(w.Context(), m, effect("by another")); err != nil {
					return err
				}
				_, err := w.Handle(w.Context(), m, never)
				return err
			},
			"in a batch": func(m inbox.Message) error {
				_, err := w.HandleBatch(w.Context(), []inbox.Message{m}, effects)
				return err
			},
			"failed in a batch": func(m inbox.Message) error {
				_, err := w.HandleBatch(w.Context(), []inbox.Message{m, message("neighbour", "n")}, func(context.Context, transaction, []inbox.Message) error {
					return errors.New("bad")
				})
				return err
			},
			"claimed": func(m inbox.Message) error { _, err := w.AtMostOnce(w.Context(), m, sent); return err },
		}
		for name, end := range end {
			m := message(name, name)
			w.starts(w, m)
			if err := end(m); err != nil {
				w.Fatal(name, err)
			}
			if n := w.count("inbox_started"); n != 0 {
				w.Fatalf("%s: %d records are left", name, n)
			}
		}
	})
}

// The record and the effect are one: if the transaction does not commit, neither has happened.
func TestTheRecordOfAStartStaysWhereTheProcessEnds(t *testing.T) {
	each(t, func(w *world) {
		process, m := w.process(nil), message("1", "k")
		w.starts(process, m)
		g := newGate()
		running := w.handling(process, m, g.handle(effect("1")))
		soon(w, g.running)
		equal(w, "records while it runs", w.count("inbox_started"), 1)
		g.letGo <- nil
		if got := soon(w, running); got.err != nil {
			w.Fatal(got)
		}
		equal(w, "records afterwards", w.count("inbox_started"), 0)
	})
}

func TestASessionThatWasNotClosedTellsOfACrash(t *testing.T) {
	each(t, func(w *world) {
		open := func(b box, partition int32, want bool) {
			w.Helper()
			if crashed, err := b.Open(w.Context(), "orders", partition); crashed != want || err != nil {
				w.Fatal(crashed, err)
			}
		}
		closed := func(b box) {
			w.Helper()
			if err := b.Close(w.Context(), "orders", 1); err != nil {
				w.Fatal(err)
			}
		}
		other := w.process(nil)
		open(w, 1, false)
		open(w, 1, false) // its own
		open(w, 2, false)
		open(other, 1, true)
		named := func(c *inbox.Config) { c.Instance = "billing-0" }
		open(w.process(named), 3, false)
		open(w.process(named), 3, true) // the same name, and another process
		closed(w)                       // it is another's by now
		open(w.process(nil), 1, true)
		open(other, 1, true)
		closed(other)
		closed(other)
		open(w, 1, false)
	})
}
