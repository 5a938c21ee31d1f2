package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// named is a handler that names the first bad message, as says has it, and counts its calls.
func named(calls *int, bad string, says func(int) error) batchHandler {
	return func(ctx context.Context, tx transaction, messages []inbox.Message) error {
		*calls++
		for n, m := range messages {
			if m.ID == bad {
				return says(n)
			}
		}
		return effects(ctx, tx, messages)
	}
}

// hundred are messages of ten keys; 34 and 44 are of one key.
func hundred() []inbox.Message {
	var all []inbox.Message
	for n := range 100 {
		all = append(all, message(fmt.Sprint(n), fmt.Sprint("k", n%10)))
	}
	return all
}

var errNamed = errors.New("no such account")

func TestANamedMessageCostsOneMoreTransaction(t *testing.T) {
	each(t, func(w *world) {
		calls := 0
		outcomes, err := w.HandleBatch(w.Context(), hundred(), named(&calls, "34", func(n int) error {
			return fmt.Errorf("book: %w", inbox.At(n, errNamed))
		}))
		if err != nil {
			w.Fatal(err)
		}
		equal(w, "calls", calls, 2)
		for n, o := range outcomes {
			want := inbox.Processed
			switch {
			case n == 34:
				want = inbox.Failed
			case n%10 == 4 && n > 34:
				want = inbox.Deferred
			}
			if o.Result != want || (n == 34) != errors.Is(o.Err, errNamed) {
				w.Errorf("message %d: %v, %v; want %v", n, o.Result, o.Err, want)
			}
		}
		equal(w, "effects", w.count("effects"), 100-7)
	})
}

func TestANamedMessageIsParkedOnlyIfItFailsAloneToo(t *testing.T) {
	each(t, func(w *world) {
		for name, says := range map[string]func(int) error{
			"inside":  func(n int) error { return inbox.At(n, inbox.Permanent(errNamed)) },
			"outside": func(n int) error { return inbox.Permanent(inbox.At(n, errNamed)) },
		} {
			calls := 0
			batch := batchOf("1"+name+" a"+name, "2"+name+" b"+name, "3"+name+" b"+name, "4"+name+" c"+name)
			outcomes, err := w.HandleBatch(w.Context(), batch, named(&calls, "2"+name, says))
			if results(outcomes) != "processed parked parked processed" || err != nil {
				w.Fatal(name, outcomes, err)
			}
			equal(w, "calls", calls, 3)
		}
		calls := 0
		outcomes, err := w.HandleBatch(w.Context(), batchOf("1 a", "2 b", "3 c", "4 d"),
			func(ctx context.Context, tx transaction, messages []inbox.Message) error {
				calls++
				if slices.ContainsFunc(messages, func(m inbox.Message) bool { return m.ID == "3" }) {
					return inbox.At(0, inbox.Permanent(errNamed)) // which is wrong as long as there are others
				}
				return effects(ctx, tx, messages)
			})
		if results(outcomes) != "processed processed parked processed" || err != nil {
			w.Fatal(outcomes, err)
		}
	})
}

func TestAnIndexThatNoMessageHasIsIgnored(t *testing.T) {
	each(t, func(w *world) {
		for _, index := range []int{-1, 4, 1 << 40} {
			calls, id := 0, fmt.Sprint("bad", index)
			outcomes, err := w.HandleBatch(w.Context(), batchOf(fmt.Sprint("1", index, " a"), fmt.Sprint("2", index, " b"), id+" c", fmt.Sprint("4", index, " d")),
				named(&calls, id, func(int) error { return inbox.At(index, errNamed) }))
			if results(outcomes) != "processed processed failed processed" || err != nil {
				w.Fatal(outcomes, err)
			}
		}
		if inbox.At(3, nil) != nil {
			w.Error("nil is an error")
		}
	})
}

// The handler of one message swallowed an error of Postgres, and the next one's statement fails for
// it.
func TestAMessageAfterAFailedStatementIsNotNamed(t *testing.T) {
	each(t, func(w *world) {
		outcomes, err := w.HandleBatch(w.Context(), batchOf("1 a", "bad b", "3 c", "4 d"),
			func(ctx context.Context, tx transaction, messages []inbox.Message) error {
				for n, m := range messages {
					err := write(ctx, tx, m.ID)
					if m.ID == "bad" && tx.exec(ctx, "SELECT 1/0") == nil {
						return errors.New("no error")
					}
					if err != nil {
						return inbox.At(n, err)
					}
				}
				return nil
			})
		if results(outcomes) != "processed failed processed processed" || err != nil {
			w.Fatal(outcomes, err)
		}
		w.wantEffects("1", "3", "4")
	})
}
