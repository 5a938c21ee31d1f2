//go:build alerts

package metrics

import (
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/harness/usage"
)

// What an idle relay costs while all its metrics are scraped every 5 s: at most 1 % of a core, and 25
// transactions a second on the database.
func TestAnIdleRelayIsCheapWhileItIsScraped(t *testing.T) {
	database := kit.Database(t)
	route, _ := kit.RouteOf(t)
	address := freeAddress(t)
	relay := kit.StartRelay(t, kit.RelaySettings(t, database, kit.Brokers(t), route, "RELAY_ADMIN="+address), "run")
	p := startPrometheus(t, "5s", map[string][]string{"relay": {address}})
	p.await(60*time.Second, `relay_backlog_rows == 0`)
	conn := kit.Connect(t, database)
	if _, err := conn.Exec(t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('account', 'a', 'T')`); err != nil {
		t.Fatal(err)
	}
	p.await(60*time.Second, `relay_rows_published_total == 1`)
	type sample struct {
		at           time.Time
		transactions int64
		used         usage.Usage
	}
	read := func() (s sample) {
		t.Helper()
		used, err := usage.Of(relay.ID())
		if err == nil {
			err = conn.QueryRow(t.Context(),
				`SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()`).Scan(&s.transactions)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.at, s.used = time.Now(), used
		return s
	}
	time.Sleep(5 * time.Second) // until it counts as idle; there is nothing to wait for
	before := read()
	time.Sleep(30 * time.Second) // the time that is measured
	after := read()
	seconds := after.at.Sub(before.at).Seconds()
	core := 100 * (after.used.Processor - before.used.Processor).Seconds() / seconds
	rate := float64(after.transactions-before.transactions-1) / seconds
	t.Logf("an idle relay uses %.2f %% of a core, and makes %.1f transactions a second", core, rate)
	if core > 1 || rate > 25 {
		t.Errorf("an idle relay uses %.2f %% of a core and makes %.1f transactions a second, want at most 1 %% and 25", core, rate)
	}
}
