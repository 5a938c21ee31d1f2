package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// mail runs the effect at most once.
func (w *world) mail(b box, m inbox.Message, h func(context.Context) error) outcome {
	result, err := b.AtMostOnce(w.Context(), m, h)
	return outcome{result, err}
}

func (w *world) wantMail(want inbox.Result, m inbox.Message, h func(context.Context) error) {
	w.Helper()
	if got := w.mail(w, m, h); got.result != want || got.err != nil {
		w.Fatalf("got %v, want %v", got, want)
	}
}

func sent(context.Context) error   { return nil }
func unsent(context.Context) error { return errors.New("this effect must not run") }

func TestAnEffectIsDoneAtMostOnce(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		w.wantMail(inbox.Processed, m, sent)
		w.wantMail(inbox.Duplicate, m, unsent)
		w.want(inbox.Duplicate, w, m, never)
		equal(w, "claims", w.count("inbox_claims"), 0)
		equal(w, "audit", w.count("inbox_audit"), 0)
	})
}

func TestAnEffectThatFailedIsAuditedWhenItIsSeenAgain(t *testing.T) {
	each(t, func(w *world) {
		failures := map[string]func(context.Context) error{
			"error": func(context.Context) error { return errors.New("connection cut") },
			"panic": func(context.Context) error { panic("oops") },
		}
		for name, h := range failures {
			m := message(name, "k")
			if got := w.mail(w, m, h); got.result != inbox.Failed || got.err == nil {
				w.Fatal(name, got)
			}
			w.wantMail(inbox.Audited, m, unsent)
			other := w.process(func(c *inbox.Config) { c.Instance = "other" })
			if got := w.mail(other, m, unsent); got.result != inbox.Audited || got.err != nil {
				w.Fatal(name, got)
			}
		}
		w.wantRows(`SELECT DISTINCT action || ' ' || (details->>'error') || ' ' || (details->>'seen_by') FROM inbox_audit
			WHERE msg_id = 'error' AND details->>'seen_by' = 'other' AND details->>'claimed_by' = '`+w.Instance()+`'`, "unknown connection cut other")
		equal(w, "audit", w.count("inbox_audit"), 4)
		equal(w, "claims", w.count("inbox_claims"), 2)
	})
}

// Parking a message whose effect may have happened counts as seeing it again, as handling it
// does.
func TestAnEffectThatFailedIsAuditedWhenItIsParked(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		if got := w.mail(w, m, func(context.Context) error { return errors.New("connection cut") }); got.result != inbox.Failed {
			w.Fatal(got)
		}
		if result, err := w.Park(w.Context(), m, inbox.CauseAttempts, 1, errors.New("connection cut")); result != inbox.Audited || err != nil {
			w.Fatalf("result %v, error %v; want %v", result, err, inbox.Audited)
		}
		w.wantRows("SELECT action || ' ' || msg_id FROM inbox_audit", "unknown 1")
		w.wantQueue()
		w.wantMail(inbox.Processed, message("2", "k"), sent)
		if result, err := w.Park(w.Context(), message("2", "k"), inbox.CauseAttempts, 1, nil); result != inbox.Duplicate || err != nil {
			w.Fatalf("result %v, error %v; want %v", result, err, inbox.Duplicate)
		}
	})
}

func TestAnEffectThatIsNotDoneInTimeIsNotBegunAgain(t *testing.T) {
	each(t, func(w *world) {
		b := w.process(quick)
		if got := w.mail(b, message("1", "k"), func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }); !errors.Is(got.err, inbox.ErrTimeout) {
			w.Fatal(got)
		}
		letGo := make(chan struct{})
		w.Cleanup(func() { close(letGo) })
		got := w.mail(b, message("2", "k"), func(context.Context) error { <-letGo; return nil })
		if !errors.Is(got.err, inbox.ErrTimeout) || !errors.Is(got.err, inbox.ErrLeftBehind) {
			w.Fatal(got)
		}
		w.wantMail(inbox.Audited, message("1", "k"), unsent)
		w.wantMail(inbox.Audited, message("2", "k"), unsent)
	})
}

func TestAnEffectThatSurelyDidNotHappenIsTriedAgain(t *testing.T) {
	each(t, func(w *world) {
		m, refused := message("1", "k"), errors.New("421 try later")
		for _, says := range []func(error) error{inbox.NotDone, inbox.Unavailable, inbox.NotDone} {
			if got := w.mail(w, m, func(context.Context) error { return says(refused) }); got.result != inbox.Failed || !errors.Is(got.err, refused) {
				w.Fatal(got)
			}
			w.wantEmpty()
		}
		w.wantMail(inbox.Processed, m, sent)

		bad := message("2", "k2")
		w.wantMail(inbox.Parked, bad, func(context.Context) error { return inbox.Permanent(errors.New("no such address")) })
		w.wantMail(inbox.Duplicate, bad, unsent)
		w.wantMail(inbox.Parked, message("3", "k2"), unsent)
		w.wantQueue("2 permanent", "3 behind")
		equal(w, "claims", w.count("inbox_claims"), 0)
	})
}

func TestASecondRunOfAnEffectThatGoesOnIsAudited(t *testing.T) {
	each(t, func(w *world) {
		m, running, letGo := message("1", "k"), make(chan struct{}), make(chan struct{})
		first := background(func() outcome {
			return w.mail(w, m, func(context.Context) error { close(running); <-letGo; return nil })
		})
		soon(w, running)
		if got := w.mail(w.process(nil), m, unsent); got.result != inbox.Audited || got.err != nil {
			w.Fatal(got)
		}
		close(letGo)
		if got := soon(w, first); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
		w.wantMail(inbox.Duplicate, m, unsent)
	})
}

// watchCommits notes, in a table, what synchronous_commit is where rows of that table come and go.
func (w *world) watchCommits(table string) {
	w.do(`CREATE TABLE watched (setting text);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO watched VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR DELETE OR UPDATE ON ` + table + ` DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch()`)
}

func TestAClaimIsOnDiskWhateverTheSessionIsSetTo(t *testing.T) {
	each(t, func(w *world) {
		w.watchCommits("inbox_claims")
		b := w.processAt(w.with("synchronous_commit", "off"), 2, nil)
		if got := w.mail(b, message("1", "k"), func(context.Context) error {
			w.wantRows("SELECT setting FROM watched", "on")
			return nil
		}); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
	})
}

func TestAStartIsOnDiskWhateverTheSessionIsSetTo(t *testing.T) {
	each(t, func(w *world) {
		w.watchCommits("inbox_started")
		b := w.processAt(w.with("synchronous_commit", "off"), 2, nil)
		if _, err := b.Start(w.Context(), batchOf("1 k")); err != nil {
			w.Fatal(err)
		}
		w.wantRows("SELECT setting FROM watched", "on")
	})
}

func TestAClaimThatCannotBeSettledIsAnErrorAndIsAudited(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		got := w.mail(w, m, func(context.Context) error {
			w.do(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'read only'; END $$;
				CREATE TRIGGER refuse BEFORE DELETE ON inbox_claims FOR EACH ROW EXECUTE FUNCTION refuse()`)
			return nil
		})
		if got.result != inbox.Failed || got.err == nil || !strings.Contains(got.err.Error(), "is done, but its claim could not be settled") {
			w.Fatal(got)
		}
		w.wantMail(inbox.Audited, m, unsent)
	})
}

func TestAnEffectIsWrittenDownThoughItsCallerIsGone(t *testing.T) {
	each(t, func(w *world) {
		ctx, cancel := context.WithCancel(w.Context())
		result, err := w.AtMostOnce(ctx, message("1", "k"), func(context.Context) error { cancel(); return errors.New("connection cut") })
		if result != inbox.Failed || !errors.Is(err, context.Canceled) {
			w.Fatal(result, err)
		}
		w.wantMail(inbox.Audited, message("1", "k"), unsent)
		w.wantRows("SELECT right(details->>'error', 14) FROM inbox_audit", "connection cut")
	})
}

func TestAParkedEffectIsRetriedAtMostOnce(t *testing.T) {
	each(t, func(w *world) {
		for _, id := range []string{"1", "2", "3"} {
			if result, err := w.Park(w.Context(), message(id, "k"), inbox.CauseAttempts, 1, nil); result != inbox.Parked || err != nil {
				w.Fatal(result, err)
			}
		}
		key := w.request()
		retry := func(b box, h func(context.Context) error) (inboxloop.Retried, error) {
			return b.RetryAtMostOnce(w.Context(), key, func(ctx context.Context, _ inbox.Message) error { return h(ctx) })
		}
		refused := errors.New("421 try later")
		if got, err := retry(w, func(context.Context) error { return inbox.NotDone(refused) }); got.Result != inbox.Failed || !errors.Is(err, refused) || got.Message.ID != "1" {
			w.Fatalf("%+v, %v", got, err)
		}
		got, err := retry(w, func(context.Context) error { // while it runs, no other process finds its claim
			busy, err := retry(w.process(nil), unsent)
			if err == nil && !busy.Busy {
				err = errors.New("a second one runs")
			}
			return err
		})
		if got.Result != inbox.Processed || err != nil || got.Message.ID != "1" || !got.Left {
			w.Fatalf("%+v, %v", got, err)
		}
		if got, err = retry(w, func(context.Context) error { return errors.New("who knows") }); got.Result != inbox.Failed || err == nil || got.Message.ID != "2" {
			w.Fatalf("%+v, %v", got, err)
		}
		w.wantQueue("2 attempts", "3 attempts")
		if got, err = retry(w, unsent); got.Result != inbox.Audited || err != nil || got.Message.ID != "2" {
			w.Fatalf("%+v, %v", got, err)
		}
		if got, err = retry(w, sent); got.Result != inbox.Processed || err != nil || got.Message.ID != "3" {
			w.Fatalf("%+v, %v", got, err)
		}
		if got, err = retry(w, unsent); got.Left || err != nil {
			w.Fatalf("%+v, %v", got, err)
		}
		equal(w, "claims", w.count("inbox_claims"), 0)
		w.wantRows("SELECT action || ' ' || coalesce(msg_id, '-') FROM inbox_audit ORDER BY id", "unknown 2", "retried -")
		w.wantMail(inbox.Duplicate, message("3", "k"), unsent)
	})
}
