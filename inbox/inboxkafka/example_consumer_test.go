package inboxkafka_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// A service moves money as messages tell it to. The mark of each message commits with its transfer,
// so the second copy of the first message moves nothing.
func Example() {
	databaseURL, brokers := start() // a database with the inbox tables and accounts of alice and bob; a broker
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	produce(brokers, transfer("m-1", "alice", "bob", 30), transfer("m-2", "alice", "bob", 10), transfer("m-1", "alice", "bob", 30))

	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	move := func(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
		var t struct {
			From, To string
			Amount   int64
		}
		if err := json.Unmarshal(m.Payload, &t); err != nil {
			return inbox.Permanent(err) // it will never be readable: park it
		}
		_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + CASE id WHEN $1 THEN -$3::bigint ELSE $3 END WHERE id IN ($1, $2)",
			t.From, t.To, t.Amount)
		return err
	}
	consumer, err := inboxkafka.New(in, inboxkafka.Handle(move), &inboxkafka.Config{
		Brokers: brokers,
		Topics:  []string{"transfers"},
		Hooks:   stopAfter(3, stop), // so that the example ends; a service's Run ends with its context
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := consumer.Run(ctx); err != nil {
		fmt.Println(err)
		return
	}

	var alice, bob int64
	row := pool.QueryRow(context.Background(), "SELECT max(balance) FILTER (WHERE id = 'alice'), max(balance) FILTER (WHERE id = 'bob') FROM accounts")
	if err := row.Scan(&alice, &bob); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("alice", alice, "bob", bob)
	// Output: alice 60 bob 40
}
