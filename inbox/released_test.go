package inbox_test

import (
	"context"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/inbox"
)

// running begins the effect of a message in its own process, which waits for what it returns.
func (w *world) running(m inbox.Message) (ends chan<- error, done <-chan outcome) {
	begun, end := make(chan struct{}), make(chan error)
	done = background(func() outcome {
		return w.mail(w.process(nil), m, func(context.Context) error { close(begun); return <-end })
	})
	soon(w, begun)
	return end, done
}

// The partition goes to another process while an effect runs. That one passes the message as
// unknown; if nothing happened, no other process would ever try it.
func TestAnEffectThatDidNotHappenIsParkedIfItWasPassedMeanwhile(t *testing.T) {
	each(t, func(w *world) {
		for id, says := range map[string]func(error) error{"1": inbox.NotDone, "2": inbox.Unavailable} {
			m := message(id, "k"+id)
			ends, done := w.running(m)
			w.wantMail(inbox.Audited, m, unsent)
			ends <- says(errors.New("421 try later"))
			if got := soon(w, done); got.result != inbox.Parked || got.err != nil {
				w.Fatal(got)
			}
			w.wantRows("SELECT msg_id || ' ' || cause || ' ' || error FROM inbox_parked WHERE msg_id = '"+id+"'", id+" attempts 421 try later")
			w.wantRows(`SELECT action || ' ' || coalesce(details->>'verdict', '-') || ' ' || coalesce(details->>'outcome', '-')
				FROM inbox_audit WHERE msg_id = '`+id+`' ORDER BY id`, "unknown - -", "settle not-done parked")
			w.wantMail(inbox.Duplicate, m, unsent)
		}
		equal(w, "claims", w.count("inbox_claims"), 0)
		w.do("DELETE FROM inbox_parked WHERE msg_id = '2'; DELETE FROM inbox_parked_keys WHERE key = 'k2'")
		key := w.request()
		got, err := w.RetryAtMostOnce(w.Context(), key, func(context.Context, inbox.Message) error { return nil })
		if got.Result != inbox.Processed || got.Message.ID != "1" || err != nil {
			w.Fatal(got, err)
		}
	})
}

// The audit says what became of an effect that it has as unknown.
func TestAnEffectThatHappenedAfterAllIsInTheAudit(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		ends, done := w.running(m)
		w.wantMail(inbox.Audited, m, unsent)
		ends <- nil
		if got := soon(w, done); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
		w.wantRows("SELECT action || ' ' || coalesce(details->>'verdict', '-') FROM inbox_audit ORDER BY id", "unknown -", "settle done")
	})
}

// The claim is released between the look at the mark and the look at the claim.
func TestAMessageThatIsReleasedWhileItIsSeenAgainIsHandled(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		ends, done := w.running(m)
		held, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if err := held.exec(w.Context(), "SELECT FROM inbox FOR UPDATE"); err != nil {
			w.Fatal(err)
		}
		ends <- inbox.NotDone(errors.New("421 try later"))
		w.untilWaiting(1) // the claim is gone, but for the mark
		again := background(func() outcome { return w.mail(w.process(nil), m, sent) })
		w.untilWaiting(2)
		if err := held.rollback(w.Context()); err != nil {
			w.Fatal(err)
		}
		if got := soon(w, done); got.result != inbox.Failed || !inbox.IsNotDone(got.err) {
			w.Fatal(got)
		}
		if got := soon(w, again); got.result != inbox.Processed || got.err != nil {
			w.Fatal(got)
		}
		equal(w, "audit", w.count("inbox_audit"), 0)
	})
}

// What a person has decided about a claim stays.
func TestAClaimThatAPersonSettledIsNotReleasedOnceMore(t *testing.T) {
	each(t, func(w *world) {
		m := message("1", "k")
		ends, done := w.running(m)
		w.do("DELETE FROM inbox_claims") // settled as done: the mark stays
		ends <- inbox.NotDone(errors.New("421 try later"))
		if got := soon(w, done); got.result != inbox.Failed {
			w.Fatal(got)
		}
		w.wantMail(inbox.Duplicate, m, unsent)
	})
}
