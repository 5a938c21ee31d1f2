package inboxkafka_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

func createTopic(ctx context.Context, client *kgo.Client) error {
	response, err := kadm.NewClient(client).CreateTopic(ctx, 2, 1, nil, "transfers")
	if err == nil {
		err = response.Err
	}
	return err
}

// produce sends records.
func produce(brokers []string, records ...*kgo.Record) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MetadataMinAge(10*time.Millisecond))
	must(err)
	defer client.Close()
	must(client.ProduceSync(context.Background(), records...).FirstErr())
}

// transfer is a record as the relay sends it.
func transfer(id, from, to string, amount int) *kgo.Record {
	return &kgo.Record{
		Topic: "transfers", Key: []byte(from), Value: fmt.Appendf(nil, `{"from": %q, "to": %q, "amount": %d}`, from, to, amount),
		Headers: []kgo.RecordHeader{{Key: "msg_id", Value: []byte(id)}, {Key: "source", Value: []byte("bank")}},
	}
}

// stopAfter are hooks that call stop after so many messages.
func stopAfter(n int64, stop func()) inboxkafka.Hooks {
	var done atomic.Int64
	return inboxkafka.Hooks{Handled: func(context.Context, inbox.Message, inbox.Result, int, time.Duration) {
		if done.Add(1) == n {
			stop()
		}
	}}
}
