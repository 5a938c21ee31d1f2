package inbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// With synchronous_commit = off a commit is flushed some time later by its own process. Twenty
// in a row would not be, at once.
func TestFlushPutsOnDiskWhatWasCommitted(t *testing.T) {
	each(t, func(w *world) {
		named := func(c *inbox.Config) { c.Instance = "host-1" }
		lazy := w.processAt(w.with("options", "-c synchronous_commit=off"), 4, named)
		now, err := lazy.Incarnation(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		if err := lazy.Flush(w.Context(), now); !errors.Is(err, inboxloop.ErrNoSession) {
			w.Fatalf("without a partition: %v", err)
		}
		if _, err := lazy.Open(w.Context(), "orders", 3); err != nil {
			w.Fatal(err)
		}
		for n := range 20 {
			w.want(inbox.Processed, lazy, message(fmt.Sprint(n), "k"), effect("paid"))
			written := w.rows("SELECT pg_current_wal_insert_lsn()::text")[0]
			if err := lazy.Flush(w.Context(), now); err != nil {
				w.Fatal(err)
			}
			if flushed := w.rows("SELECT (pg_current_wal_flush_lsn() >= $1::text::pg_lsn)::text", written)[0]; flushed != "true" {
				w.Fatalf("the log is not flushed up to %s", written)
			}
		}
		// Another process takes the partition over: this one may be a zombie, whose offsets no group
		// needs.
		if _, err := w.Open(w.Context(), "orders", 3); err != nil {
			w.Fatal(err)
		}
		if err := lazy.Flush(w.Context(), now); !errors.Is(err, inboxloop.ErrNoSession) {
			w.Fatalf("another process has the partition: %v", err)
		}
	})
}

func TestAKeyMayBeLongerThanAnEntryOfAnIndex(t *testing.T) {
	each(t, func(w *world) {
		long := bytes.Repeat([]byte("0123456789abcdef"), 1<<12)
		for n := range long {
			long[n] ^= byte(n * 7 / 3) // not to be compressed away
		}
		first, second, other := message("1", ""), message("2", ""), message("3", "")
		first.Key, second.Key, other.Key = long, long, long[1:]
		result, err := w.Park(w.Context(), first, inbox.CausePermanent, 1, errors.New("no"))
		if result != inbox.Parked || err != nil {
			w.Fatal(result, err)
		}
		w.want(inbox.Parked, w, second, never)
		w.want(inbox.Processed, w, other, effect("other"))
		third := second
		third.ID = "4"
		outcomes, err := w.HandleBatch(w.Context(), []inbox.Message{third}, effects)
		if got := results(outcomes); got != "parked" || err != nil {
			w.Fatal(got, err)
		}
		w.wantQueue("1 permanent", "2 behind", "4 behind")
	})
}

// A claim is evidence and stays, also when retention has removed the mark.
func TestAClaimThatOutlivesItsMarkIsNotBegunAgain(t *testing.T) {
	each(t, func(w *world) {
		failing := func(context.Context) error { return errors.New("the answer was lost") }
		if result, err := w.AtMostOnce(w.Context(), message("1", "k"), failing); result != inbox.Failed || err == nil {
			w.Fatal(result, err)
		}
		w.do("DELETE FROM inbox")
		result, err := w.AtMostOnce(w.Context(), message("1", "k"), func(context.Context) error {
			w.Error("the effect is begun again")
			return nil
		})
		if result != inbox.Audited || err != nil {
			w.Fatal(result, err)
		}
		equal(w, "marks", w.count("inbox"), 1)
	})
}
