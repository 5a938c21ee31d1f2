package inbox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// kept is how long the marks of billing are kept, and what is claimed.
func (w *world) wantKept(want string, claims ...string) {
	w.Helper()
	w.wantRows("SELECT coalesce(retention::text, 'forever') FROM inbox_consumers WHERE consumer = 'billing'", want)
	w.wantRows("SELECT claimant FROM inbox_retentions WHERE consumer = 'billing' ORDER BY claimant", claims...)
}

func (w *world) retain(keep time.Duration, claimants ...string) {
	w.Helper()
	if err := w.Retain(w.Context(), keep, claimants...); err != nil {
		w.Fatal(err)
	}
}

// Two Consumers of one name, each with its own topics, claim in turn.
func TestTheLongestClaimKeepsTheMarks(t *testing.T) {
	each(t, func(w *world) {
		w.retain(200*time.Hour, "g/orders")
		w.retain(2*time.Hour, "g/prices", "g/stock")
		w.wantKept("200:00:00", "g/orders", "g/prices", "g/stock")
		// What one claims again replaces its own claim only.
		w.retain(100*time.Hour, "g/orders")
		w.wantKept("100:00:00", "g/orders", "g/prices", "g/stock")
		// The topic is consumed no more. Marks that were written under the claim are needed for that
		// long after its last repetition.
		w.do("UPDATE inbox_retentions SET claimed_at = now() - interval '99 hours' WHERE claimant = 'g/orders'")
		w.retain(2*time.Hour, "g/prices", "g/stock")
		w.wantKept("100:00:00", "g/orders", "g/prices", "g/stock")
		w.do("UPDATE inbox_retentions SET claimed_at = now() - interval '101 hours' WHERE claimant = 'g/orders'")
		w.retain(2*time.Hour, "g/prices", "g/stock")
		w.wantKept("02:00:00", "g/prices", "g/stock")
		// A claim without an end ends only by its claimant.
		w.retain(0, "g/audit")
		w.do("UPDATE inbox_retentions SET claimed_at = now() - interval '50 years' WHERE claimant = 'g/audit'")
		w.retain(2*time.Hour, "g/prices")
		w.wantKept("forever", "g/audit", "g/prices", "g/stock")
		w.retain(3*time.Hour, "g/audit")
		w.wantKept("03:00:00", "g/audit", "g/prices", "g/stock")
	})
}

// Somebody has written to inbox_consumers by hand, as services in other languages did.
func TestARetentionThatWasWrittenByHandIsAClaim(t *testing.T) {
	each(t, func(w *world) {
		w.do("INSERT INTO inbox_consumers (consumer, retention) VALUES ('billing', '50 hours')")
		w.retain(2*time.Hour, "g/prices")
		w.wantKept("50:00:00", "", "g/prices")
		w.retain(time.Hour)
		w.wantKept("02:00:00", "", "g/prices")
	})
}

// Two claim at once: the second one sees the claim of the first.
func TestClaimsAtOnceDoNotMissEachOther(t *testing.T) {
	each(t, func(w *world) {
		w.retain(time.Hour, "g/a")
		tx, err := w.begin(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if err := tx.exec(w.Context(), "SELECT inbox_retain('billing', '9 hours', '{g/b}')"); err != nil {
			w.Fatal(err)
		}
		other := w.process(func(c *inbox.Config) { c.Instance = strings.Repeat("x", 3) })
		done := background(func() error { return other.Retain(w.Context(), 2*time.Hour, "g/c") })
		w.untilWaiting(1)
		if err := tx.commit(w.Context()); err != nil {
			w.Fatal(err)
		}
		if err := soon(w, done); err != nil {
			w.Fatal(err)
		}
		w.wantKept("09:00:00", "g/a", "g/b", "g/c")
	})
}
