package inboxkafka_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// started are the brokers of this test run.
var started struct {
	mu      sync.Mutex
	brokers []*sandbox.Broker
}

func TestMain(m *testing.M) {
	testpg.Main(m, testpg.Options{Stop: func() error {
		for _, b := range started.brokers {
			b.Stop()
		}
		return nil
	}})
}

// tables are what business the examples have: accounts with some money, and a list of effects.
const tables = `CREATE TABLE accounts (id text PRIMARY KEY, balance bigint NOT NULL);
INSERT INTO accounts VALUES ('alice', 100), ('bob', 0);
CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg text NOT NULL, key text)`

// start returns the connection string of a new database with the inbox and some accounts, and the
// addresses of a new broker with the empty topic transfers. It panics if there is none, since an
// example cannot report it.
func start() (databaseURL string, brokers []string) {
	return testpg.Example(tables, migrations.Inbox()), startBroker()
}

// startBroker returns the addresses of a new broker with the empty topic transfers.
func startBroker() (brokers []string) {
	ctx := context.Background()
	broker, err := sandbox.StartBroker(ctx, sandbox.BrokerOptions{Partitions: 2})
	must(err)
	started.mu.Lock()
	started.brokers = append(started.brokers, broker)
	started.mu.Unlock()
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
