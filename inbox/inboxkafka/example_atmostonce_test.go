package inboxkafka_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// An e-mail is sent at most once, through copies of its message and through crashes. If the process
// ends while it is sent, the message is in inbox_audit for a person to look at.
func ExampleAtMostOnce() {
	databaseURL, brokers := start()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	produce(brokers, transfer("m-1", "alice", "bob", 30), transfer("m-1", "alice", "bob", 30))

	in, err := inbox.New(pool, &inbox.Config{Consumer: "mailer"})
	if err != nil {
		fmt.Println(err)
		return
	}
	send := func(_ context.Context, m inbox.Message) error {
		fmt.Println("mail about", m.ID)
		return nil
	}
	consumer, err := inboxkafka.New(in, inboxkafka.AtMostOnce[pgx.Tx](send), &inboxkafka.Config{
		Brokers: brokers,
		Topics:  []string{"transfers"},
		Hooks:   stopAfter(2, stop), // so that the example ends
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := consumer.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: mail about m-1
}
