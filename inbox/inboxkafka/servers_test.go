package inboxkafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// servers are the Postgres and the broker of this test run. They start with the first test that needs them.
var servers struct {
	mu        sync.Mutex
	postgres  *sandbox.Postgres
	brokers   []*sandbox.Broker
	databases int
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, b := range servers.brokers {
		b.Stop()
	}
	var err error
	if servers.postgres != nil {
		err = servers.postgres.Stop()
	}
	if code == 0 {
		err = errors.Join(err, goleak.Find())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// start returns the connection string of a new database with the inbox and some accounts, and the addresses of a new broker
// with the empty topic transfers. It panics where there is none, since an example has nobody to report to.
func start() (databaseURL string, brokers []string) {
	servers.mu.Lock()
	defer servers.mu.Unlock()
	ctx := context.Background()
	if servers.postgres == nil {
		postgres, err := sandbox.StartPostgres(ctx, sandbox.PostgresOptions{
			Version: os.Getenv("RELAY_TEST_POSTGRES_VERSION"), Parameters: map[string]string{"fsync": "off"},
		})
		must(err)
		servers.postgres = postgres
	}
	servers.databases++
	url, err := servers.postgres.CreateDatabase(ctx, fmt.Sprintf("inboxkafka_%d", servers.databases))
	must(err)
	conn, err := pgx.Connect(ctx, url)
	must(err)
	defer func() { must(conn.Close(ctx)) }()
	for _, m := range migrations.Inbox() {
		_, err = conn.Exec(ctx, m.Up, pgx.QueryExecModeSimpleProtocol)
		must(err)
	}
	_, err = conn.Exec(ctx, `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL);
		INSERT INTO accounts VALUES ('alice', 100), ('bob', 0);
		CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg text NOT NULL, key text)`, pgx.QueryExecModeSimpleProtocol)
	must(err)
	return url, startBroker()
}

// startBroker returns the addresses of a new broker with the empty topic transfers.
func startBroker() (brokers []string) {
	ctx := context.Background()
	broker, err := sandbox.StartBroker(ctx, sandbox.BrokerOptions{Partitions: 2})
	must(err)
	servers.brokers = append(servers.brokers, broker)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addresses...))
	must(err)
	defer client.Close()
	must(createTopic(ctx, client))
	return broker.Addresses
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("servers for the examples: %v", err))
	}
}
