package inbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// batchOf makes messages of "id key" each. Without a key the message stands alone.
func batchOf(all ...string) []inbox.Message {
	var messages []inbox.Message
	for _, text := range all {
		id, key, ordered := strings.Cut(text, " ")
		m := message(id, key)
		if !ordered {
			m.Key = nil
		}
		messages = append(messages, m)
	}
	return messages
}

// effectsBut writes a row a message, and fails for those whose id begins with bad, or parks those
// whose begins with never.
func effectsBut(calls *atomic.Int32) batchHandler {
	return func(ctx context.Context, tx transaction, messages []inbox.Message) error {
		if calls != nil {
			calls.Add(1)
		}
		if err := effects(ctx, tx, messages); err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case strings.HasPrefix(m.ID, "bad"):
				return errors.New("bad " + m.ID)
			case strings.HasPrefix(m.ID, "never"):
				return inbox.Permanent(errors.New("never " + m.ID))
			}
		}
		return nil
	}
}

func (w *world) wantBatch(want string, h batchHandler, messages ...inbox.Message) []inbox.Outcome {
	w.Helper()
	outcomes, err := w.HandleBatch(w.Context(), messages, h)
	if got := results(outcomes); got != want || err != nil {
		w.Fatalf("got %s, %v; want %s", got, err, want)
	}
	return outcomes
}

func TestABatchIsOneTransactionAndOneCall(t *testing.T) {
	each(t, func(w *world) {
		var calls atomic.Int32
		messages := batchOf("1 a", "2 b", "3 a", "4", "5")
		messages[3].Source = "warehouse"
		w.wantBatch("processed processed processed processed processed", effectsBut(&calls), messages...)
		w.wantEffects("1", "2", "3", "4", "5")
		equal(w, "calls", calls.Load(), int32(1))
		equal(w, "transactions", w.rows("SELECT count(DISTINCT tx)::text FROM effects")[0], "1")
		w.wantBatch("duplicate duplicate duplicate duplicate duplicate", effectsBut(&calls), messages...)
		equal(w, "calls", calls.Load(), int32(1))
		w.wantBatch("", effectsBut(&calls))
	})
}

func TestACopyInTheSameBatchIsADuplicate(t *testing.T) {
	each(t, func(w *world) {
		w.want(inbox.Processed, w, message("0", "a"), effect("0"))
		w.wantBatch("duplicate processed duplicate processed duplicate", effects, batchOf("0 a", "1 a", "1 a", "2 b", "1 c")...)
		w.wantEffects("0", "1", "2")
	})
}

func TestABadMessageOfABatchFailsAlone(t *testing.T) {
	each(t, func(w *world) {
		outcomes := w.wantBatch("processed processed failed processed deferred processed deferred", effectsBut(nil),
			batchOf("1 a", "2 b", "bad3 c", "4 b", "5 c", "6", "7 c")...)
		if err := outcomes[2].Err; err == nil || err.Error() != "bad bad3" {
			w.Error(err)
		}
		w.wantEffects("1", "2", "4", "6")
		w.wantBatch("duplicate duplicate processed duplicate processed duplicate processed", effects,
			batchOf("1 a", "2 b", "bad3 c", "4 b", "5 c", "6", "7 c")...)
		w.wantEffects("1", "2", "4", "6", "bad3", "5", "7")
	})
}

func TestSeveralBadMessagesOfABatchFailAlone(t *testing.T) {
	each(t, func(w *world) {
		w.wantBatch("failed processed processed failed deferred failed processed failed", effectsBut(nil),
			batchOf("bad1 a", "2 b", "3 c", "bad4 d", "5 d", "bad6", "7", "bad8 b")...)
		w.wantEffects("2", "3", "7")
	})
}

func TestAPermanentFailureInABatchParksItAndWhatComesBehind(t *testing.T) {
	each(t, func(w *world) {
		outcomes := w.wantBatch("processed parked processed parked processed", effectsBut(nil),
			batchOf("1 a", "never2 b", "3 a", "4 b", "5 c")...)
		if !inbox.IsPermanent(outcomes[1].Err) || outcomes[3].Err != nil {
			w.Error(outcomes)
		}
		w.wantEffects("1", "3", "5")
		w.wantQueue("never2 permanent", "4 behind")
		w.wantBatch("parked processed duplicate", effects, batchOf("6 b", "7 a", "never2 b")...)
		w.wantQueue("never2 permanent", "4 behind", "6 behind")
	})
}

func TestABatchOfParkedKeysOnlyCallsNobody(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "a"))
		w.park(message("2", ""))
		w.wantBatch("parked parked parked", func(context.Context, transaction, []inbox.Message) error {
			return errors.New("must not run")
		}, batchOf("3 a", "4 ", "5 a")...)
		w.wantQueue("1 attempts", "2 attempts", "3 behind", "4 behind", "5 behind")
		w.wantBatch("processed", effects, batchOf("6")...) // no key is not the empty one
	})
}

func TestAFailureThatComesWithCommitIsFoundInABatch(t *testing.T) {
	each(t, func(w *world) {
		w.do("CREATE TABLE refs (account text REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)")
		outcomes := w.wantBatch("processed failed processed deferred", func(ctx context.Context, tx transaction, messages []inbox.Message) error {
			for _, m := range messages {
				account := "alice"
				if m.ID == "2" {
					account = "nobody"
				}
				if err := errors.Join(write(ctx, tx, m.ID), tx.exec(ctx, "INSERT INTO refs VALUES ($1)", account)); err != nil {
					return err
				}
			}
			return nil
		}, batchOf("1 a", "2 b", "3 a", "4 b")...)
		w.wantOrdinary(outcomes[1].Err)
		w.wantEffects("1", "3")
	})
}

// Whatever fails, however many, an earlier message of a key is never overtaken, and the number of
// calls has a bound.
func TestWhereNearlyEverythingFailsTheCallsAreBoundedAndNoOrderIsInverted(t *testing.T) {
	each(t, func(w *world) {
		for name, bad := range map[string]func(n int) bool{
			"all":             func(int) bool { return true },
			"the first three": func(n int) bool { return n < 192 },
			"every other":     func(n int) bool { return n < 128 && n%2 == 0 },
		} {
			var messages []inbox.Message
			for n := range 256 {
				m := message(fmt.Sprint(name, n), fmt.Sprint(name, n%64))
				if bad(n) {
					m.ID = "bad" + m.ID
				}
				messages = append(messages, m)
			}
			var calls atomic.Int32
			outcomes, err := w.HandleBatch(w.Context(), messages, effectsBut(&calls))
			if err != nil {
				w.Fatal(err)
			}
			if n := calls.Load(); n > 60 {
				w.Errorf("%s: %d calls", name, n)
			}
			decided, open := 0, map[string]bool{}
			for n, o := range outcomes {
				key := string(messages[n].Key)
				switch {
				case o.Result != inbox.Processed:
					open[key] = true
				case open[key]:
					w.Fatalf("%s: message %d overtook an earlier one of key %s", name, n, key)
				}
				if o.Result != inbox.Deferred {
					decided++
				}
			}
			if decided == 0 {
				w.Errorf("%s: nothing was decided", name)
			}
		}
	})
}

func TestABatchThatIsNotDoneInTimeIsNotSplit(t *testing.T) {
	each(t, func(w *world) {
		var calls atomic.Int32
		outcomes, err := w.process(quick).HandleBatch(w.Context(), batchOf("1 a", "2 a", "3 b", "4"),
			func(ctx context.Context, _ transaction, _ []inbox.Message) error {
				calls.Add(1)
				<-ctx.Done()
				return ctx.Err()
			})
		if got := results(outcomes); got != "failed deferred failed failed" || err != nil || !errors.Is(outcomes[0].Err, inbox.ErrTimeout) {
			w.Fatal(got, err, outcomes)
		}
		equal(w, "calls", calls.Load(), int32(1))
		w.wantEmpty()
	})
}

func TestABatchEndsWithItsContext(t *testing.T) {
	each(t, func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		var calls atomic.Int32
		outcomes, err := w.HandleBatch(ctx, batchOf("1 a", "2 b"), func(context.Context, transaction, []inbox.Message) error {
			calls.Add(1)
			cancel()
			return errors.New("cut off")
		})
		if got := results(outcomes); got != "failed failed" || !errors.Is(err, context.Canceled) || calls.Load() != 1 {
			w.Fatal(got, err, calls.Load())
		}
		outcomes, err = w.HandleBatch(w.Context(), batchOf("1 a", "2 b"), func(context.Context, transaction, []inbox.Message) error {
			return inbox.Unavailable(errors.New("the bank is closed"))
		})
		if got := results(outcomes); got != "failed failed" || !inbox.IsUnavailable(err) {
			w.Fatal(got, err)
		}
		w.wantEmpty()
	})
}

func TestAnInvalidMessageOfABatchHoldsItsKeyBack(t *testing.T) {
	each(t, func(w *world) {
		messages := batchOf("1 a", "2 b", "3 a", "4 b")
		messages[0].Source = ""
		outcomes := w.wantBatch("failed processed deferred processed", effects, messages...)
		if !errors.Is(outcomes[0].Err, inbox.ErrInvalid) {
			w.Error(outcomes[0].Err)
		}
		w.wantEffects("2", "4")
	})
}

func TestAHugeBatch(t *testing.T) {
	each(t, func(w *world) {
		const size = 10_000
		w.park(message("first", "parked"))
		var messages []inbox.Message
		var want []string
		for n := range size {
			m := message(fmt.Sprint(n), fmt.Sprint(n%777))
			if n%10 == 3 {
				m.Key = []byte("parked")
				want = append(want, m.ID)
			}
			messages = append(messages, m)
		}
		count := func(ctx context.Context, tx transaction, fresh []inbox.Message) error {
			return tx.exec(ctx, "INSERT INTO effects (msg) VALUES ($1)", fmt.Sprint(len(fresh)))
		}
		outcomes, err := w.HandleBatch(w.Context(), messages, count)
		if err != nil || len(outcomes) != size {
			w.Fatal(err)
		}
		w.wantEffects("9000")
		if got := w.rows("SELECT msg_id FROM inbox_parked WHERE cause = 'behind' ORDER BY id"); !slices.Equal(got, want) {
			w.Fatalf("%d are parked, or not in order", len(got))
		}
		seen, err := w.Seen(w.Context(), messages)
		if err != nil || slices.Contains(seen, false) {
			w.Fatal("not all were seen", err)
		}
	})
}
