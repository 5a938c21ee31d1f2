package inbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/internal/exampledb"
	"github.com/outbox-relay/relay/outbox"
)

func exampleInbox(ctx context.Context) (*inbox.Inbox[pgx.Tx], *pgxpool.Pool) {
	pool, err := pgxpool.New(ctx, exampledb.URL())
	if err != nil {
		panic(err)
	}
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		panic(err)
	}
	return in, pool
}

// The effect and the mark that the message was handled commit together, so a second copy has no
// effect.
func ExampleInbox_Handle() {
	ctx := context.Background()
	in, pool := exampleInbox(ctx)
	defer pool.Close()

	message := inbox.Message{ID: "payment-1", Source: "shop", Topic: "payments", Key: []byte("alice")}
	for range 2 {
		result, err := in.Handle(ctx, message, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance - 30 WHERE id = 'alice'")
			return err
		})
		fmt.Println(result == inbox.Processed, result == inbox.Duplicate, err)
	}
	var balance int
	if err := pool.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = 'alice'").Scan(&balance); err != nil {
		fmt.Println(err)
	}
	fmt.Println("alice has", balance)
	// Output:
	// true false <nil>
	// false true <nil>
	// alice has 70
}

// Many messages take one transaction. One that can never be handled does not fail its neighbours:
// it is parked, and later ones of its key wait behind it.
func ExampleInbox_HandleBatch() {
	ctx := context.Background()
	in, pool := exampleInbox(ctx)
	defer pool.Close()

	outcomes, err := in.HandleBatch(ctx, []inbox.Message{
		{ID: "1", Source: "shop", Topic: "payments", Key: []byte("alice")},
		{ID: "2", Source: "shop", Topic: "payments", Key: []byte("carol")},
		{ID: "3", Source: "shop", Topic: "payments", Key: []byte("carol")},
		{ID: "4", Source: "shop", Topic: "payments", Key: []byte("bob")},
	}, func(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
		for _, m := range messages {
			tag, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + 1 WHERE id = $1", string(m.Key))
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return inbox.Permanent(fmt.Errorf("there is no account %s", m.Key))
			}
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	for n, o := range outcomes {
		fmt.Println(n+1, o.Result == inbox.Processed, o.Result == inbox.Parked, o.Err)
	}
	// Output:
	// 1 true false <nil>
	// 2 false true there is no account carol
	// 3 false true <nil>
	// 4 true false <nil>
}

// A service that has its own transaction joins it.
func ExampleInbox_Accept() {
	ctx := context.Background()
	in, pool := exampleInbox(ctx)
	defer pool.Close()

	for range 2 {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			result, err := in.Accept(ctx, tx, inbox.Message{ID: "1", Source: "shop"})
			fmt.Println(result)
			if err != nil || result != inbox.Accepted {
				return err // nil commits: a message that was parked just now is in this transaction
			}
			_, err = tx.Exec(ctx, "UPDATE accounts SET balance = balance + 1")
			return err
		})
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// accepted
	// duplicate
}

// An e-mail cannot be rolled back. If it is not known whether it was sent, it is not sent again,
// and a person finds it in inbox_audit.
func ExampleInbox_AtMostOnce() {
	ctx := context.Background()
	in, pool := exampleInbox(ctx)
	defer pool.Close()

	message := inbox.Message{ID: "1", Source: "shop"}
	_, err := in.AtMostOnce(ctx, message, func(context.Context) error {
		return errors.New("the connection was lost after DATA")
	})
	fmt.Println(err)
	result, err := in.AtMostOnce(ctx, message, func(context.Context) error {
		fmt.Println("never runs")
		return nil
	})
	fmt.Println(result == inbox.Audited, err)
	// Output:
	// effect of message 1 of shop: the connection was lost after DATA
	// true <nil>
}

// An event that a message causes is written in the transaction of the handler, and says what caused
// it.
func ExampleMessage_Follow() {
	ctx := context.Background()
	in, pool := exampleInbox(ctx)
	defer pool.Close()

	_, err := in.Handle(ctx, inbox.Message{ID: "order-1", Source: "shop"}, func(ctx context.Context, tx pgx.Tx) error {
		message, _ := inbox.FromContext(ctx)
		_, err := outbox.Insert(ctx, tx, message.Follow(outbox.Message{
			AggregateType: "payment", AggregateID: "alice", Type: "PaymentTaken", Payload: []byte(`{"amount":30}`),
		}))
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	var cause string
	if err := pool.QueryRow(ctx, "SELECT headers->>'causation_id' FROM outbox").Scan(&cause); err != nil {
		fmt.Println(err)
	}
	fmt.Println("caused by", cause)
	// Output: caused by order-1
}
