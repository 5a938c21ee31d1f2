package inbox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/inbox"
)

// aboutTheServer are SQLSTATEs that are about the server if it sends them by itself.
var aboutTheServer = []string{
	"08001", "08006", "25006", "28000", "28P01", "3D000", "53100", "53200", "53300", "53400", "57P01", "57P03", "58000", "58030",
}

// A handler may get such a SQLSTATE from a function, from another server, or at a limit that it
// alone meets: the connection is there and the server is well, so it is a failure of this message.
func TestAStateOfTheServerIsTheMessagesFailureWhereTheServerIsWell(t *testing.T) {
	each(t, func(w *world) {
		for _, state := range aboutTheServer {
			m := message(state, "k")
			result, err := w.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
				return fmt.Errorf("pay: %w", raise(ctx, tx, state))
			})
			if result != inbox.Failed || err == nil {
				w.Fatal(state, result, err)
			}
			w.wantOrdinary(err)
		}
		outcomes, err := w.HandleBatch(w.Context(), batchOf("1 a", "bad b", "3 c"),
			func(ctx context.Context, tx transaction, messages []inbox.Message) error {
				for _, m := range messages {
					if m.ID == "bad" {
						return raise(ctx, tx, "53400")
					}
				}
				return effects(ctx, tx, messages)
			})
		if results(outcomes) != "processed failed processed" || err != nil {
			w.Fatal(outcomes, err)
		}
		w.wantOrdinary(outcomes[1].Err)
		w.park(message("2", "d"))
		_, err = w.Retry(w.Context(), w.request(), func(ctx context.Context, tx transaction, _ inbox.Message) error {
			return raise(ctx, tx, "53400")
		})
		w.wantOrdinary(err)
		got := w.mail(w, message("4", "e"), func(context.Context) error { return &pgconn.PgError{Code: "53300"} })
		if got.err == nil {
			w.Fatal(got)
		}
		w.wantOrdinary(got.err)
		w.wantEffects("1", "3")
	})
}

// A real one: the query needs more temporary files than it may have.
func TestALimitOfTheServerThatOneMessageMeetsIsItsFailure(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.with("temp_file_limit", "256kB"), 2, nil)
		m := message("1", "k")
		_, err := b.Handle(w.Context(), m, func(ctx context.Context, tx transaction) error {
			return tx.exec(ctx, "SELECT count(*) FROM generate_series(1, 3000000)")
		})
		w.wantOrdinary(err)
		w.want(inbox.Processed, b, m, effect("paid"))
		w.wantEffects("paid")
	})
}

// What a handler says itself is not asked about.
func TestAHandlerThatSaysUnavailableIsBelieved(t *testing.T) {
	each(t, func(w *world) {
		_, err := w.Handle(w.Context(), message("1", "k"), func(ctx context.Context, tx transaction) error {
			return inbox.Unavailable(raise(ctx, tx, "53400"))
		})
		if !inbox.IsUnavailable(err) {
			w.Fatal(err)
		}
	})
}

// The same states are an outage if the server accepts no connections any more.
func TestAStateOfTheServerIsAnOutageWhereTheServerIsUnwell(t *testing.T) {
	each(t, func(w *world) {
		for _, state := range []string{"53100", "57P01"} {
			x, url := w.throughWire()
			b := w.processAt(url, 2, nil)
			result, err := b.Handle(w.Context(), message("1", "k"), func(ctx context.Context, tx transaction) error {
				err := raise(ctx, tx, state)
				x.end()
				return err
			})
			if result != inbox.Failed || !inbox.IsUnavailable(err) {
				w.Fatal(state, result, err)
			}
		}
		w.wantEmpty()
	})
}

// COMMIT runs deferred triggers, which are the message's doing as much as its statements are.
func TestAStateOfTheServerThatCommitMeetsIsTheMessagesFailure(t *testing.T) {
	each(t, func(w *world) {
		w.do(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53400'; END $$;
			CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON effects DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
			WHEN (NEW.msg = 'bad') EXECUTE FUNCTION refuse()`)
		result, err := w.Handle(w.Context(), message("1", "k"), effect("bad"))
		if result != inbox.Failed || err == nil {
			w.Fatal(result, err)
		}
		w.wantOrdinary(err)
		outcomes, err := w.HandleBatch(w.Context(), batchOf("1 a", "bad b", "3 c"), effects)
		if results(outcomes) != "processed failed processed" || err != nil {
			w.Fatal(outcomes, err)
		}
		w.wantEffects("1", "3")
	})
}
