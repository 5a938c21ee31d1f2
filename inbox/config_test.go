package inbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxsql"
)

func TestAllFaultsOfAConfigAreReportedAtOnce(t *testing.T) {
	_, err := inbox.New(nil, &inbox.Config{
		Consumer: strings.Repeat("x", 256), Schema: "\xff", Instance: "\x00", HandlerTimeout: -time.Second,
	})
	if err == nil {
		t.Fatal("no error")
	}
	want := "inbox: the pool, or the database, is nil\ninbox: Consumer has 256 bytes; at most 255 are allowed\ninbox: Schema is not valid UTF-8\n" +
		"inbox: Instance holds a zero byte, which Postgres does not store\ninbox: HandlerTimeout is -1s; give a time such as 30s"
	if err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if _, err := inbox.NewWithDriver[int](nil, nil); err == nil || err.Error() != "inbox: the pool, or the database, is nil\ninbox: Consumer is empty" {
		t.Errorf("no config: %v", err)
	}
	if _, err := inboxsql.New(nil, nil); err == nil || err.Error() != "inbox: the pool, or the database, is nil\ninbox: Consumer is empty" {
		t.Errorf("no database: %v", err)
	}
}

func TestAConfigOfOnlyAConsumerIsEnough(t *testing.T) {
	one, two := inbox.Config{Consumer: "billing"}.WithDefaults(), inbox.Config{Consumer: "billing"}.WithDefaults()
	pool, err := pgxpool.New(t.Context(), "postgres://nowhere/billing") // which connects to nothing yet
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if _, err := inbox.New(pool, &inbox.Config{Consumer: "billing"}); err != nil {
		t.Fatal(err)
	}
	if one.HandlerTimeout != 30*time.Second || one.Reruns != 10 || one.Logger == nil {
		t.Errorf("%+v", one)
	}
	if one.Instance == "" || one.Instance == two.Instance {
		t.Errorf("instances %q and %q", one.Instance, two.Instance)
	}
}

// work goes through every statement there is.
func work(w *world, b box) {
	w.Helper()
	w.want(inbox.Processed, b, message("1", "k"), effect("1"))
	outcomes, err := b.HandleBatch(w.Context(), batchOf("1 k", "2 a", "never3 b", "4 b", "5"), effectsBut(nil))
	if got := results(outcomes); got != "duplicate processed parked parked processed" || err != nil {
		w.Fatal(got, err)
	}
	w.want(inbox.Parked, b, message("6", "b"), never)
	seen, err := b.Seen(w.Context(), batchOf("1 k", "new k"))
	if err != nil {
		w.Fatal(err)
	}
	equal(w, "seen", seen, []bool{true, false})
	if _, err := b.Open(w.Context(), "orders", 1); err != nil {
		w.Fatal(err)
	}
	if err := b.Close(w.Context(), "orders", 1); err != nil {
		w.Fatal(err)
	}
	equal(w, "starts", w.starts(b, message("7", "k")), []int{0})
	w.want(inbox.Processed, b, message("7", "k"), effect("7"))
	if result, err := b.AtMostOnce(w.Context(), message("8", "k"), sent); result != inbox.Processed || err != nil {
		w.Fatal(result, err)
	}
	key := w.request()
	if err := b.RetryFailed(w.Context(), key, context.Canceled); err != nil {
		w.Fatal(err)
	}
	key = w.request()
	for _, id := range []string{"never3", "4"} {
		if got := w.retry(b, key); got.Message.ID != id || got.err != nil {
			w.Fatalf("%+v", got)
		}
	}
	once, err := b.RetryAtMostOnce(w.Context(), key, func(context.Context, inbox.Message) error { return nil })
	if once.Message.ID != "6" || err != nil {
		w.Fatalf("%+v, %v", once, err)
	}
	if got := w.retry(b, key); got.Left || got.err != nil {
		w.Fatalf("%+v", got)
	}
	w.wantEffects("1", "2", "5", "7", "never3", "4")
}

// Poolers and old habits ask for other ways to send statements.
func TestEveryWayOfSendingStatementsWorks(t *testing.T) {
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			each(t, func(w *world) { work(w, w.processAt(w.with("default_query_exec_mode", mode), 4, nil)) })
		})
	}
}

func TestTheTablesMayBeInASchemaThatIsNotInTheSearchPath(t *testing.T) {
	each(t, func(w *world) {
		schema := w.rows("SELECT current_schema::text")[0]
		w.do(`CREATE SCHEMA "` + schema + `""odd"`)
		w.Cleanup(func() {
			if _, err := w.eye.Exec(context.WithoutCancel(w.Context()), `DROP SCHEMA "`+schema+`""odd" CASCADE`); err != nil {
				w.Error(err)
			}
		})
		for _, name := range w.rows("SELECT c.relname::text FROM pg_class c WHERE relnamespace = $1::text::regnamespace AND relname LIKE 'inbox%' AND relkind IN ('r', 'p')", schema) {
			w.do(`ALTER TABLE "` + name + `" SET SCHEMA "` + schema + `""odd"`)
		}
		odd := schema + `"odd`
		b := w.process(func(c *inbox.Config) { c.Schema = odd })
		w.want(inbox.Processed, b, message("1", "k"), effect("1"))
		w.want(inbox.Duplicate, b, message("1", "k"), never)
		outcomes, err := b.HandleBatch(w.Context(), batchOf("1 k", "2 a", "never3 b", "4 b"), effectsBut(nil))
		if got := results(outcomes); got != "duplicate processed parked parked" || err != nil {
			w.Fatal(got, err)
		}
		if _, err := w.Handle(w.Context(), message("5", "k"), never); err == nil {
			w.Fatal("without the setting the tables were found")
		}
	})
}

func TestAChangeOfATableIsNoFailure(t *testing.T) {
	each(t, func(w *world) {
		b := w.processAt(w.url, 1, nil)
		for n, change := range []string{"SELECT 1", "ALTER TABLE inbox_parked_keys ADD COLUMN note text", "ALTER TABLE inbox ADD COLUMN note text", "SELECT inbox_add_weeks(30)"} {
			id := string(rune('a' + n))
			w.do(change)
			w.want(inbox.Processed, b, message(id, "k"), effect(id))
			outcomes, err := b.HandleBatch(w.Context(), batchOf(id+" k", "batch"+id+" k"), effects)
			if got := results(outcomes); got != "duplicate processed" || err != nil {
				w.Fatal(change, got, err)
			}
		}
	})
}

func TestNewOpensNoConnection(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	i, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	result, err := i.Park(t.Context(), message("1", "k"), inbox.CauseAttempts, 1, nil)
	if result != inbox.Failed || !inbox.IsUnavailable(err) {
		t.Fatal(result, err)
	}
}
