//go:build alerts

package metrics

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	registry "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxprom"
	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/observe"
)

// freeAddress is one on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

// consume runs a consumer of a topic that serves its metrics, and returns their address. One message
// of a hundred fails at first.
func consume(t *testing.T, topic string) (address string) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), kit.InboxDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	in, err := inbox.New(pool, &inbox.Config{Consumer: kit.UniqueName(t)})
	if err != nil {
		t.Fatal(err)
	}
	failed := map[string]bool{}
	calls := 0
	handle := func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if calls++; calls%100 == 0 && !failed[m.ID] {
			failed[m.ID] = true
			return errors.New("once in a while")
		}
		return nil
	}
	metrics := inboxprom.New()
	consumer, err := inboxkafka.New(in, inboxkafka.Handle(handle), &inboxkafka.Config{
		Brokers: kit.Brokers(t), Topics: []string{topic}, Workers: 1, Hooks: metrics.Hooks(inboxkafka.Hooks{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	metrics.Watch(consumer)
	served := registry.NewRegistry()
	served.MustRegister(metrics)
	server := httptest.NewServer(promhttp.HandlerFor(served, promhttp.HandlerOpts{}))
	t.Cleanup(server.Close)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the consumer ended with %v", err)
		}
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// Two relays and a consumer run on real servers under a real Prometheus. Each query of the
// dashboards has an answer, no rule is invalid, and none fires. Then the table is locked, and then
// the relays are killed, and Prometheus sees both.
func TestDashboardsAndRulesOfARealRun(t *testing.T) {
	database := kit.Database(t)
	route, topic := kit.RouteOf(t)
	admin := kadm.NewClient(kit.KafkaClient(t, kit.Brokers(t)))
	if _, err := admin.CreateTopic(t.Context(), 3, -1, nil, topic); err != nil {
		t.Fatal(err)
	}
	addresses := []string{freeAddress(t), freeAddress(t)}
	var relays []*kit.RelayProcess
	for _, address := range addresses {
		settings := kit.RelaySettings(t, database, kit.Brokers(t), route, "RELAY_ADMIN="+address, "RELAY_RETENTION=1s")
		relays = append(relays, kit.StartRelay(t, settings, "run"))
	}
	p := startPrometheus(t, "1s", map[string][]string{"relay": addresses, "billing": {consume(t, topic)}})
	conn := kit.Connect(t, database)
	insert := func() {
		if _, err := conn.Exec(t.Context(), `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
			SELECT 'account', 'a-' || n, 'Changed', 'x' FROM generate_series(1, 20) n`); err != nil {
			t.Fatal(err)
		}
	}
	kit.Eventually(t, 90*time.Second, "everything is scraped", func() bool {
		insert()
		found, err := p.query(`relay_backlog_rows and on () sum(inbox_messages_total{result="processed"}) > 100 and on () inbox_parked_keys
			and on () count_over_time(relay_retention_last_success_timestamp_seconds[1m]) > 3 and on () relay_rows_published_total > 100
			and on () count_over_time(inbox_partition_lag_offsets{partition="0"}[1m]) > 5`)
		return err == nil && len(found) > 0
	})
	everyPanelIsAnswered(t, p)
	for _, a := range p.alerts() {
		if a.Health != "ok" || a.State == "firing" {
			t.Errorf("alert %s is %s, its rule is %s: %s", a.Name, a.State, a.Health, a.LastError)
		}
	}

	tx, err := conn.Begin(t.Context())
	if err == nil {
		_, err = tx.Exec(t.Context(), `LOCK TABLE outbox`)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.await(30*time.Second, `max by (lane) (relay_lane_impaired{reason="table"}) == 1`)
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.await(30*time.Second, `max by (lane) (relay_lane_impaired{reason="table"}) == 0`)

	// What only the owner knows is served by the next owner, and by no other.
	p.await(30*time.Second, `count(relay_backlog_rows) == 1`)
	owner, _ := kit.LaneOwner(t, database)
	killed := kit.OwnerIndex(t, relays, owner)
	relays[killed].Kill()
	insert()
	p.await(60*time.Second, `relay_backlog_rows{instance="`+addresses[1-killed]+`"} == 0 unless on (lane) relay_backlog_rows{instance="`+
		addresses[killed]+`"}`)
	if state := p.state("RelayDown"); state != "inactive" {
		t.Errorf("with one relay of two RelayDown is %s", state)
	}
	relays[1-killed].Kill()
	kit.Eventually(t, 60*time.Second, "RelayDown is about to fire", func() bool { return p.state("RelayDown") == "pending" })
}

// everyPanelIsAnswered asks what Grafana would ask.
func everyPanelIsAnswered(t *testing.T, p *prometheus) {
	t.Helper()
	chosen := strings.NewReplacer("$__rate_interval", "30s", "$job", ".*", "$lane", ".*", "$group", ".*")
	asked := 0
	for _, d := range []observe.Dashboard{observe.RelayDashboard(), observe.InboxDashboard()} {
		for _, panel := range d.Panels {
			for _, q := range panel.Queries {
				asked++
				found, err := p.query(chosen.Replace(q.Expr))
				if err != nil || len(found) == 0 {
					t.Errorf("%s, %s: %s has %d series, %v", d.Title, panel.Title, q.Expr, len(found), err)
				}
			}
		}
	}
	t.Logf("%d queries of panels have an answer", asked)
}
