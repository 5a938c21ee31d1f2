package relay

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

const insertEvent = "INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('account', $1, 'Changed', $2)"

func insert(t testing.TB, tx pgx.Tx, aggregate, payload string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), insertEvent, aggregate, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func begin(t testing.TB, url string) pgx.Tx {
	t.Helper()
	tx, err := kit.Connect(t, url).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func values(records []*kgo.Record) string {
	var list []string
	for _, r := range records {
		list = append(list, string(r.Value))
	}
	return strings.Join(list, " ")
}

func TestAnOpenTransactionLosesNothingAndDelaysNobody(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route, "RELAY_TOPICS_PARTITIONS=1"), "run")

	open := begin(t, url)
	insert(t, open, "slow", "slow-1")
	rolledBack := begin(t, url)
	insert(t, rolledBack, "never", "never")
	commitEach := func(payloads ...string) {
		for _, p := range payloads {
			tx := begin(t, url)
			insert(t, tx, "quick", p)
			kit.Commit(t, tx)
		}
	}
	commitEach("quick-1")
	kit.Consume(t, kit.Brokers(t), 1, time.Minute, topic) // the relay is up
	began := time.Now()
	commitEach("quick-2", "quick-3")
	if got := values(kit.Consume(t, kit.Brokers(t), 3, time.Minute, topic)); got != "quick-1 quick-2 quick-3" {
		t.Fatalf("beside an open transaction: %s", got)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("events took %v beside an open transaction", took)
	}
	if err := rolledBack.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	insert(t, open, "slow", "slow-2")
	kit.Commit(t, open)
	commitEach("quick-4")
	if got := values(kit.Consume(t, kit.Brokers(t), 6, time.Minute, topic)); got != "quick-1 quick-2 quick-3 slow-1 slow-2 quick-4" {
		t.Fatalf("after it has committed: %s", got)
	}
}

// T1 has the lower transaction id, T2 locks the aggregate first: T2's event comes first.
func TestTheOrderIsThatOfTheAggregateNotOfTransactionIDs(t *testing.T) {
	for name, finish := range map[string]func(t *testing.T, first pgx.Tx){
		"plain": func(t *testing.T, first pgx.Tx) {
			takeAndInsert(t, first, "T1")
			kit.Commit(t, first)
		},
		"savepoint": func(t *testing.T, first pgx.Tx) {
			for _, statement := range []string{"SAVEPOINT a", "ROLLBACK TO a", "SAVEPOINT b"} {
				if _, err := first.Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			takeAndInsert(t, first, "T1")
			kit.Commit(t, first)
		},
		"prepared": func(t *testing.T, first pgx.Tx) {
			takeAndInsert(t, first, "T1")
			for _, statement := range []string{"PREPARE TRANSACTION 'one'", "COMMIT PREPARED 'one'"} {
				if _, err := first.Conn().Exec(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := kit.Database(t)
			route, topic := kit.RouteOf(t)
			kit.Execute(t, url, "CREATE TABLE account (id int PRIMARY KEY, version int NOT NULL); INSERT INTO account VALUES (1, 0)")
			kit.StartRelay(t, kit.RelaySettings(t, url, kit.Brokers(t), route), "run")
			first := begin(t, url)
			if _, err := first.Exec(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
				t.Fatal(err)
			}
			second := begin(t, url)
			takeAndInsert(t, second, "T2")
			kit.Commit(t, second)
			finish(t, first)
			if got := values(kit.Consume(t, kit.Brokers(t), 2, time.Minute, topic)); got != "T2 T1" {
				t.Errorf("arrived as %s, want T2 T1", got)
			}
		})
	}
}

func takeAndInsert(t testing.TB, tx pgx.Tx, payload string) {
	t.Helper()
	if _, err := tx.Exec(t.Context(), "UPDATE account SET version = version + 1 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	insert(t, tx, "1", payload)
}
