package relay_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/outbox"
)

// A service runs the relay in its own process: New, then Run until the context of the service ends.
// Every replica of the service does the same; one of them publishes, and another takes over when
// that one ends.
func Example() {
	databaseURL, brokers := servers() // a database with the tables of the relay, and a broker
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	write(ctx, databaseURL, outbox.Message{
		AggregateType: "order", AggregateID: "42", Type: "OrderPaid", Payload: []byte(`{"order":"42"}`),
	})

	r, err := relay.New(&relay.Config{
		DatabaseURL: databaseURL,
		Brokers:     brokers,
		Topics:      relay.Topics{Create: true},
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Hooks: relay.Hooks{Committed: func(b relay.Batch) {
			fmt.Println("published", b.Rows, "event in batch", b.Seq)
			stop() // a service goes on
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: published 1 event in batch 1
}

// write commits messages, as a service does in the transactions of its business writes.
func write(ctx context.Context, databaseURL string, messages ...outbox.Message) {
	conn, err := pgx.Connect(ctx, databaseURL)
	must(err)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := outbox.Insert(ctx, tx, messages...)
		return err
	})
	must(err)
	must(conn.Close(ctx))
}
