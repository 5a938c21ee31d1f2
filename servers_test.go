package relay_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/sandbox"
	"github.com/outbox-relay/relay/outbox"
	migrations "github.com/outbox-relay/relay/sql"
)

var brokers []*sandbox.Broker

func TestMain(m *testing.M) {
	testpg.Main(m, testpg.Options{Stop: func() error {
		for _, b := range brokers {
			b.Stop()
		}
		return nil
	}})
}

// servers makes a database with the tables of the relay and starts a broker; both end with the
// tests.
func servers() (databaseURL string, addresses []string) {
	broker, err := sandbox.StartBroker(context.Background(), sandbox.BrokerOptions{})
	must(err)
	brokers = append(brokers, broker)
	return testpg.Example("", migrations.List()), broker.Addresses
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("the examples need servers: %v", err))
	}
}

// publishAndForget publishes two events, one after the other, and then deletes the checkpoint
// topic.
func publishAndForget(ctx context.Context, config *relay.Config) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	first := *config
	batches := 0
	first.Hooks.Committed = func(relay.Batch) {
		if batches++; batches == 1 {
			write(ctx, config.DatabaseURL, order("43"))
			return
		}
		stop()
	}
	write(ctx, config.DatabaseURL, order("42"))
	r, err := relay.New(&first)
	must(err)
	must(r.Run(ctx))
	client, err := kgo.NewClient(kgo.SeedBrokers(config.Brokers...))
	must(err)
	defer client.Close()
	topic := "relay." + r.Name() + ".checkpoints"
	deleted, err := kadm.NewClient(client).DeleteTopics(context.Background(), topic)
	must(err)
	must(deleted.Error())
}

func order(id string) outbox.Message {
	return outbox.Message{AggregateType: "order", AggregateID: id, Type: "OrderPaid", Payload: []byte(`{}`)}
}
