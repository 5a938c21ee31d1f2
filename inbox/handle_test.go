package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/inbox"
)

func TestAMessageIsProcessedOnceAndIsADuplicateAfterwards(t *testing.T) {
	each(t, func(w *world) {
		m := message(uuid.Must(uuid.NewV7()).String(), "k")
		w.want(inbox.Processed, w, m, effect("paid"))
		w.want(inbox.Duplicate, w, m, never)
		m.Key, m.Topic = []byte("other"), "elsewhere" // the identity is source and id, whatever it is sent with
		w.want(inbox.Duplicate, w.process(nil), m, never)
		w.wantEffects("paid")
		equal(w, "marks", w.count("inbox"), 1)
	})
}

func TestTheSameIDOfTwoSourcesIsTwoMessages(t *testing.T) {
	each(t, func(w *world) {
		for _, source := range []string{"shop", "warehouse"} {
			m := message("1", "k")
			m.Source = source
			w.want(inbox.Processed, w, m, effect(source))
		}
		w.wantEffects("shop", "warehouse")
	})
}

func TestTwoConsumersBothHandleAMessage(t *testing.T) {
	each(t, func(w *world) {
		other := w.process(func(c *inbox.Config) { c.Consumer = "mailing" })
		w.want(inbox.Processed, w, message("1", "k"), effect("billed"))
		w.want(inbox.Processed, other, message("1", "k"), effect("mailed"))
		w.wantEffects("billed", "mailed")
	})
}

func TestIDsNeedNotBeUUIDs(t *testing.T) {
	each(t, func(w *world) {
		ids := []string{
			"1", "order 42", " ", `"{,}\'`, "naïve-🎉", strings.Repeat("x", 1024), "'; DROP TABLE inbox; --", "\n",
			"6ba7b810-9dad-11d1-80b4-00c04fd430c8", "00000000-0000-0000-0000-000000000000",
		}
		for _, id := range ids {
			w.want(inbox.Processed, w, message(id, "k"), effect(id))
			w.want(inbox.Duplicate, w, message(id, "k"), never)
		}
		w.want(inbox.Duplicate, w, message("6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "k"), never)
		outcomes, err := w.HandleBatch(w.Context(), []inbox.Message{message(ids[3], "k"), message(`\N"`, "k"), message("NULL", "k")}, effects)
		if got := results(outcomes); got != "duplicate processed processed" || err != nil {
			w.Fatal(got, err)
		}
		w.wantEffects(append(ids, `\N"`, "NULL")...)
	})
}

func TestAHandlerThatFailsLeavesNothingAndTheMessageIsHandledLater(t *testing.T) {
	each(t, func(w *world) {
		declined := errors.New("card declined")
		m := message("1", "k")
		result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
			return errors.Join(write(ctx, tx, "paid"), declined)
		})
		if result != inbox.Failed || !errors.Is(err, declined) || inbox.IsPermanent(err) || inbox.IsUnavailable(err) {
			w.Fatal(result, err)
		}
		if !strings.Contains(err.Error(), "message 1 of shop") {
			w.Errorf("the error does not say which message: %v", err)
		}
		w.wantEmpty()
		w.want(inbox.Processed, w, m, effect("paid"))
		w.wantEffects("paid")
	})
}

func TestAHandlerMayFailWithCommitOnly(t *testing.T) {
	each(t, func(w *world) {
		w.do("CREATE TABLE refs (account text REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)")
		m := message("1", "k")
		result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
			return tx.exec(ctx, "INSERT INTO refs VALUES ('nobody')")
		})
		if result != inbox.Failed || err == nil || inbox.IsUnavailable(err) {
			w.Fatal(result, err)
		}
		w.wantEmpty()
		w.want(inbox.Processed, w, m, effect("paid"))
	})
}

func TestAHandlerKnowsItsMessage(t *testing.T) {
	each(t, func(w *world) {
		sent := message("1", "k")
		sent.Headers = []inbox.Header{{Name: "trace", Value: []byte("x")}}
		check := func(ctx context.Context) error {
			m, found := inbox.FromContext(ctx)
			if !found {
				return errors.New("no message")
			}
			equal(w, "message", m, sent)
			return nil
		}
		w.want(inbox.Processed, w, sent, func(ctx context.Context, _ transaction) error { return check(ctx) })
		sent.ID = "2"
		if result, err := w.AtMostOnce(w.Context(), sent, check); result != inbox.Processed || err != nil {
			w.Fatal(result, err)
		}
		if _, found := inbox.FromContext(w.Context()); found {
			w.Error("a context of no handler has a message")
		}
	})
}

func TestMessagesThatCanHaveNoMarkAreRefused(t *testing.T) {
	each(t, func(w *world) {
		good := message("1", "k")
		for name, spoil := range map[string]func(*inbox.Message){
			"ID is empty":                      func(m *inbox.Message) { m.ID = "" },
			"ID has 1025 bytes":                func(m *inbox.Message) { m.ID = strings.Repeat("x", 1025) },
			"ID is not valid UTF-8":            func(m *inbox.Message) { m.ID = "\xff" },
			"ID holds a zero byte":             func(m *inbox.Message) { m.ID = "a\x00" },
			"Source is empty":                  func(m *inbox.Message) { m.Source = "" },
			"Source has 256 bytes":             func(m *inbox.Message) { m.Source = strings.Repeat("x", 256) },
			"Topic is not valid UTF-8":         func(m *inbox.Message) { m.Topic = "\xff" },
			"Type holds a zero byte":           func(m *inbox.Message) { m.Type = "\x00" },
			"ID is empty\nSource is empty":     func(m *inbox.Message) { m.ID, m.Source = "", "" },
			"Source is not valid UTF-8\nTopic": func(m *inbox.Message) { m.Source, m.Topic = "\xff", "\x00" },
		} {
			m := good
			spoil(&m)
			_, handled := w.Handle(w.Context(), m, never)
			_, parked := w.Park(w.Context(), m, inbox.CauseAttempts, 1, nil)
			_, started := w.Start(w.Context(), []inbox.Message{good, m})
			_, once := w.AtMostOnce(w.Context(), m, func(context.Context) error { return errors.New("must not run") })
			outcomes, err := w.HandleBatch(w.Context(), []inbox.Message{m}, func(context.Context, transaction, []inbox.Message) error {
				return errors.New("must not run")
			})
			if err != nil || outcomes[0].Result != inbox.Failed {
				w.Fatalf("%s: HandleBatch gave %v, %v", name, outcomes, err)
			}
			for _, err := range []error{handled, parked, started, once, outcomes[0].Err} {
				if !errors.Is(err, inbox.ErrInvalid) || !strings.Contains(err.Error(), name) {
					w.Errorf("%s: %v", name, err)
				}
			}
			if seen, err := w.Seen(w.Context(), []inbox.Message{m}); err != nil || seen[0] {
				w.Errorf("%s: Seen gave %v, %v", name, seen, err)
			}
		}
		w.wantEmpty()
	})
}

func TestAcceptJoinsATransactionOfTheCaller(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		attempt := func(end func(transaction) error) (result inbox.Result) {
			tx, err := w.begin(w.Context())
			if err != nil {
				w.Fatal(err)
			}
			result, err = w.Accept(w.Context(), tx, m)
			if result == inbox.Accepted && err == nil {
				err = write(w.Context(), tx, "paid")
			}
			if err := errors.Join(err, end(tx)); err != nil {
				w.Fatal(err)
			}
			return result
		}
		rollback := func(tx transaction) error { return tx.rollback(w.Context()) }
		commit := func(tx transaction) error { return tx.commit(w.Context()) }
		equal(w, "rolled back", attempt(rollback), inbox.Accepted)
		w.wantEmpty()
		equal(w, "committed", attempt(commit), inbox.Accepted)
		equal(w, "again", attempt(commit), inbox.Duplicate)
		w.wantEffects("paid")
		w.want(inbox.Duplicate, w, m, never)

		w.park(message("2", "bad"))
		m = message("3", "bad")
		equal(w, "rolled back behind a parked one", attempt(rollback), inbox.Parked)
		w.wantQueue("2 attempts")
		equal(w, "behind a parked one", attempt(commit), inbox.Parked)
		w.wantQueue("2 attempts", "3 behind")
		equal(w, "parked before", attempt(rollback), inbox.Duplicate)
		w.wantEffects("paid")
	})
}

// Rolling back what needs no commit, and acknowledging, loses nothing.
func TestACallerWhoCommitsWhatNeedsItLosesNothing(t *testing.T) {
	each(t, func(w *world) {
		w.park(message("1", "bad"))
		for _, id := range []string{"2", "2", "3"} {
			tx, err := w.begin(w.Context())
			if err != nil {
				w.Fatal(err)
			}
			result, err := w.Accept(w.Context(), tx, message(id, "bad"))
			if err != nil {
				w.Fatal(err)
			}
			end := tx.rollback
			if result.NeedsCommit() {
				end = tx.commit
			}
			if err := end(w.Context()); err != nil {
				w.Fatal(err)
			}
		}
		w.wantQueue("1 attempts", "2 behind", "3 behind")
		for result, needs := range map[inbox.Result]bool{
			inbox.Failed: false, inbox.Duplicate: false, inbox.Parked: true, inbox.Accepted: true,
		} {
			equal(w, result.String()+" needs a commit", result.NeedsCommit(), needs)
		}
	})
}

func TestAcceptEndsTheRecordOfAStart(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		if _, err := w.Start(w.Context(), []inbox.Message{m}); err != nil {
			w.Fatal(err)
		}
		tx, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		result, err := w.Accept(w.Context(), tx, m)
		if err := errors.Join(err, tx.commit(w.Context())); result != inbox.Accepted || err != nil {
			w.Fatal(result, err)
		}
		equal(w, "records of starts", w.count("inbox_started"), 0)
	})
}

func TestSeenTellsWhatWasHandledAndWritesNothing(t *testing.T) {
	each(t, func(w *world) {
		w.want(inbox.Processed, w, message("done", "k"), effect("done"))
		w.park(message("parked", "k2"))
		other := message("done", "k")
		other.Source = "warehouse"
		_, err := w.AtMostOnce(w.Context(), message("claimed", "k"), func(context.Context) error { return errors.New("who knows") })
		if err == nil {
			w.Fatal("no error")
		}
		result, err := w.AtMostOnce(w.Context(), message("mailed", "k"), func(context.Context) error { return nil })
		if result != inbox.Processed || err != nil {
			w.Fatal(result, err)
		}
		seen, err := w.Seen(w.Context(), []inbox.Message{
			message("new", "k"), message("done", "x"), {}, other, message("parked", "k2"), message("claimed", "k"), message("mailed", "k"),
			message("done", "k"),
		})
		if err != nil {
			w.Fatal(err)
		}
		equal(w, "seen", seen, []bool{false, true, false, false, true, false, true, true})
		equal(w, "marks", w.count("inbox"), 4)
		none, err := w.Seen(w.Context(), nil)
		if len(none) != 0 || err != nil {
			w.Fatal(none, err)
		}
	})
}
