package inboxkafka_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
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

// countdown calls done after so many messages.
type countdown struct {
	left atomic.Int64
	done func()
}

func (c *countdown) OnHandled(inbox.Message, inbox.Result, int, time.Duration) {
	if c.left.Add(-1) == 0 {
		c.done()
	}
}

func newCountdown(n int64, done func()) *countdown {
	c := &countdown{done: done}
	c.left.Store(n)
	return c
}
