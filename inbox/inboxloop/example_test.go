package inboxloop_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
)

// A loop on something else than Kafka acknowledges messages only once a flush says that Postgres
// can no longer forget their effects.
func Example() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	handle := func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance - 30 WHERE id = 'alice'")
		return err
	}
	if err := consume(ctx, in, handle); err != nil {
		fmt.Println(err)
	}
	// Output:
	// payment-1 processed
	// payment-2 processed
	// payment-1 duplicate
	// acknowledged 3 messages
}

// consume handles what lies in the queue, and acknowledges it.
func consume(ctx context.Context, in *inbox.Inbox[pgx.Tx], handle func(context.Context, pgx.Tx) error) (err error) {
	loop := inboxloop.New(in)
	if _, err := loop.Open(ctx, "queue", 0); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, loop.Close(ctx, "queue", 0)) }()
	since, err := loop.Incarnation(ctx) // before the first message that Flush speaks for
	if err != nil {
		return err
	}
	bound := loop.Bind(ctx, since)
	handled := 0
	for _, id := range []string{"payment-1", "payment-2", "payment-1"} {
		result, err := in.Handle(bound, inbox.Message{ID: id, Source: "shop", Topic: "queue", Key: []byte("alice"), Offset: -1}, handle)
		if err != nil {
			return err
		}
		fmt.Println(id, result)
		handled++
	}
	if err := loop.Flush(ctx, since); err != nil {
		return err // ErrForgotten: take a new incarnation, and handle these messages once more
	}
	fmt.Println("acknowledged", handled, "messages")
	return nil
}

// Somebody has asked for the retry of what is parked. The loop handles the messages of each key, in
// order, until the queue of the key is empty.
func ExampleLoop_Retry() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		fmt.Println(err)
		return
	}
	message := inbox.Message{ID: "payment-1", Source: "shop", Topic: "payments", Key: []byte("alice")}
	if _, err := in.Park(ctx, message, inbox.CauseAttempts, 10, errors.New("no such account")); err != nil {
		fmt.Println(err)
		return
	}
	// As relay inbox parked retry does.
	_, err = pool.Exec(ctx, "UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'ops', reason = 'account opened'")
	if err != nil {
		fmt.Println(err)
		return
	}

	loop := inboxloop.New(in)
	keys, err := loop.Requested(ctx, 10)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, key := range keys {
		for left := true; left; {
			retried, err := loop.Retry(ctx, key, func(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
				fmt.Println("again:", m.ID)
				return nil
			})
			if err != nil {
				fmt.Println(loop.RetryFailed(ctx, key, err))
				return
			}
			left = retried.Left
		}
		fmt.Printf("key %s is free\n", key.Key)
	}
	// Output:
	// again: payment-1
	// key alice is free
}
