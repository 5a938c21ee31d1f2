//go:build bench

package bench

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/integration/kit"
)

// The whole consumer on real Kafka and real Postgres: records a second one by one and in batches,
// and how fast a replay skips what was handled. RELAY_TEST_BENCH_ROWS sets how many records there
// are.
func TestBenchInboxConsumer(t *testing.T) {
	records := kit.NumberOf(t, "RELAY_TEST_BENCH_ROWS", 300_000)
	bootstrap, name := kit.Brokers(t), kit.Topic(t, 6)
	b := newInboxBench(t)
	b.produce(bootstrap, name, records)
	for _, mode := range []struct {
		name    string
		records int // one by one, a part of them tells enough
		handler inboxkafka.Handler[pgx.Tx]
		config  inboxkafka.Config
	}{
		{"one by one, 16 workers", records / 6, inboxkafka.Handle(b.effect), inboxkafka.Config{Workers: 16}},
		{"batches of 100, 4 workers", records, inboxkafka.HandleBatch(b.effects), inboxkafka.Config{Batch: 100, Workers: 4}},
		{"batches of 500, 4 workers", records, inboxkafka.HandleBatch(b.effects), inboxkafka.Config{Batch: 500, Workers: 4}},
	} {
		in, err := inbox.New(b.pool, &inbox.Config{Consumer: mode.name})
		if err != nil {
			t.Fatal(err)
		}
		mode.config.Brokers, mode.config.Topics, mode.config.Retention = bootstrap, []string{name}, inboxkafka.KeepForever
		first, done := b.consume(in, mode.handler, mode.config, "first", mode.records)
		if done < records { // the rest, so that all of the replay is one
			mode.handler, mode.config.Batch = inboxkafka.HandleBatch(b.effects), 500
			b.consume(in, mode.handler, mode.config, "first", records-done)
		}
		again, _ := b.consume(in, mode.handler, mode.config, "again", records)
		t.Logf("%-26s %7.0f records/s, replay %7.0f records/s", mode.name, first, again)
	}
}

// produce fills the topic with messages of many keys.
func (b *inboxBench) produce(bootstrap []string, topic string, n int) {
	b.t.Helper()
	client := kit.KafkaClient(b.t, bootstrap, kgo.MaxBufferedRecords(50_000))
	for i := range n {
		client.Produce(b.t.Context(), &kgo.Record{
			Topic: topic, Key: strconv.AppendInt(nil, int64(i%1000), 10), Value: fmt.Appendf(nil, `{"transfer": %d, "amount": %d}`, i, i%100),
			Headers: []kgo.RecordHeader{
				{Key: "msg_id", Value: []byte(uuid.Must(uuid.NewV7()).String())}, {Key: "source", Value: []byte("orders")},
				{Key: "type", Value: []byte("Transferred")},
			},
		}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.t.Error(err)
			}
		})
	}
	if err := client.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// effect is the business write of one message.
func (b *inboxBench) effect(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
	return b.effects(ctx, tx, []inbox.Message{m})
}

// effects are the business writes of many. Accounts are those of the key, in the order of the keys:
// two batches share none.
func (b *inboxBench) effects(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
	batch := &pgx.Batch{}
	for _, m := range messages {
		key, err := strconv.Atoi(string(m.Key))
		if err != nil {
			return err
		}
		batch.Queue(benchInsert, 2*key, 2*key+1, 1)
		batch.Queue(benchTake, 2*key, 1)
		batch.Queue(benchGive, 2*key+1, 1)
	}
	return tx.SendBatch(ctx, batch).Close()
}

// consume runs a consumer in a group until so many records are done, and returns records a second,
// from the first one that was done on, and how many were done in the end.
func (b *inboxBench) consume(
	in *inbox.Inbox[pgx.Tx], handler inboxkafka.Handler[pgx.Tx], config inboxkafka.Config, group string, records int,
) (rate float64, total int) {
	b.t.Helper()
	config.Group = in.Consumer() + " " + group
	consumer, err := inboxkafka.New(in, handler, &config)
	if err != nil {
		b.t.Fatal(err)
	}
	done := func() int {
		s := consumer.Stats()
		return int(s.Processed + s.Skipped + s.Duplicates)
	}
	ctx, stop := context.WithCancel(b.t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- consumer.Run(ctx) }()
	kit.Eventually(b.t, time.Minute, "the first record is done", func() bool { return done() > 0 })
	began, at := time.Now(), done()
	kit.Eventually(b.t, 10*time.Minute, fmt.Sprintf("%d records are done", records), func() bool { return done() >= records })
	rate = float64(done()-at) / time.Since(began).Seconds()
	stop()
	if err := <-ended; err != nil {
		b.t.Error(err)
	}
	return rate, done()
}
