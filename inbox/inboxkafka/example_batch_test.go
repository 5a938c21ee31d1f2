package inboxkafka_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// A handler of batches writes many rows in one statement. It gets only messages that were not
// handled before, those of one key in their order. The records come from Debezium's outbox event
// router.
func Example_batch() {
	databaseURL, brokers := start()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	for n := range 5 {
		produce(brokers, &kgo.Record{
			Topic: "transfers", Key: []byte("alice"), Value: []byte("{}"),
			Headers: []kgo.RecordHeader{{Key: "id", Value: fmt.Append(nil, "event-", n)}},
		})
	}

	in, err := inbox.New(pool, &inbox.Config{Consumer: "audit"})
	if err != nil {
		fmt.Println(err)
		return
	}
	insert := func(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
		ids := make([]string, len(messages))
		for n, m := range messages {
			ids[n] = m.ID
		}
		_, err := tx.Exec(ctx, "INSERT INTO effects (msg) SELECT unnest($1::text[])", ids)
		return err
	}
	consumer, err := inboxkafka.New(in, inboxkafka.HandleBatch(insert), &inboxkafka.Config{
		Brokers:  brokers,
		Topics:   []string{"transfers"},
		Identify: inboxkafka.DebeziumIdentity,
		Hooks:    stopAfter(5, stop), // so that the example ends
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := consumer.Run(ctx); err != nil {
		fmt.Println(err)
		return
	}

	var effects string
	if err := pool.QueryRow(context.Background(), "SELECT string_agg(msg, ' ' ORDER BY id) FROM effects").Scan(&effects); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(effects)
	// Output: event-0 event-1 event-2 event-3 event-4
}
