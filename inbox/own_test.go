package inbox_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// Whatever the inbox's own statements fail of, no handler ran, and no message is to blame.
func TestAnOwnStatementThatFailsBlamesNoMessage(t *testing.T) {
	each(t, func(w *world) {
		hasty := w.processAt(w.with("options", "-c lock_timeout=20ms -c default_transaction_isolation=serializable"), 4, nil)
		w.park(message("0", "parked"))
		key := w.request()
		for _, fault := range []struct{ name, begin, end, hint string }{
			{"a table is held", "BEGIN; LOCK TABLE inbox, inbox_parked_keys IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "VACUUM FULL"},
			{
				"a table is missing", "ALTER TABLE inbox RENAME TO away; ALTER TABLE inbox_parked_keys RENAME TO away_keys",
				"ALTER TABLE away RENAME TO inbox; ALTER TABLE away_keys RENAME TO inbox_parked_keys", "relay inbox migrate up",
			},
		} {
			w.during(fault.begin, fault.end, func() { w.wantOwn(hasty, fault.name, fault.hint, key) })
		}
		w.want(inbox.Processed, hasty, message("1", "k"), effect("1"))
		w.wantQueue("0 attempts")
	})
}

// during runs a step between two statements of one session. The second also runs if the step fails
// the test, which would wait for the table otherwise.
func (w *world) during(begin, end string, step func()) {
	w.Helper()
	conn, err := w.eye.Acquire(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Release()
	w.changed.Store(true)
	if _, err := conn.Conn().PgConn().Exec(w.Context(), begin).ReadAll(); err != nil {
		w.Fatal(err)
	}
	defer func() {
		if _, err := conn.Conn().PgConn().Exec(w.Context(), end).ReadAll(); err != nil {
			w.Error(err)
		}
	}()
	step()
}

// wantOwn fails the test unless every call says that a statement of the inbox itself failed.
func (w *world) wantOwn(b box, fault, hint string, key inboxloop.ParkedKey) {
	w.Helper()
	want := func(what string, err error) {
		w.Helper()
		if !errors.Is(err, inbox.ErrOwnStatement) || !inbox.IsUnavailable(err) || !strings.Contains(err.Error(), hint) {
			w.Fatalf("%s while %s: %v", what, fault, err)
		}
	}
	_, err := b.Handle(w.Context(), message("1", "k"), never)
	want("Handle", err)
	outcomes, err := b.HandleBatch(w.Context(), batchOf("1 a", "2 b"), func(context.Context, transaction, []inbox.Message) error {
		w.Error("the handler of a batch ran")
		return nil
	})
	want("HandleBatch", err)
	for _, o := range outcomes {
		want("HandleBatch", o.Err)
	}
	_, err = b.AtMostOnce(w.Context(), message("1", "k"), func(context.Context) error { w.Error("an effect was begun"); return nil })
	want("AtMostOnce", err)
	_, err = b.Park(w.Context(), message("1", "k"), inbox.CausePermanent, 1, errors.New("no"))
	want("Park", err)
	_, err = b.Retry(w.Context(), key, func(context.Context, transaction, inbox.Message) error { w.Error("a retry ran"); return nil })
	want("Retry", err)
	_, err = b.RetryAtMostOnce(w.Context(), key, func(context.Context, inbox.Message) error { w.Error("a retry ran"); return nil })
	want("RetryAtMostOnce", err)
}

// The other side: what a handler breaks is its failure, though a statement of the inbox meets it.
func TestAHandlerThatSpoilsItsTransactionIsToBlame(t *testing.T) {
	each(t, func(w *world) {
		started := message("1", "k")
		if _, err := w.Start(w.Context(), []inbox.Message{started}); err != nil {
			w.Fatal(err)
		}
		result, err := w.Handle(w.Context(), started, func(ctx context.Context, tx transaction) error {
			if tx.exec(ctx, "SELECT 1/0") == nil {
				return errors.New("no error")
			}
			return nil
		})
		if result != inbox.Failed || err == nil {
			w.Fatal(result, err)
		}
		w.wantOrdinary(err)
	})
}
