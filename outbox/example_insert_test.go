package outbox_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/internal/exampledb"
)

// The business row and its event commit together. The UPDATE takes the order, so events of one
// order are published in the order in which the transactions got hold of it.
func ExampleInsert() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()

	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE orders SET state = 'paid' WHERE id = $1", "42"); err != nil {
			return err
		}
		_, err := outbox.Insert(ctx, tx, outbox.Message{
			AggregateType: "order",
			AggregateID:   "42",
			Type:          "OrderPaid",
			Payload:       []byte(`{"order":"42"}`),
			Headers:       map[string]string{"content-type": "application/json"},
		})
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	var events int
	if err := pool.QueryRow(ctx, "SELECT count(*) FROM outbox").Scan(&events); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(events, "event waits to be published")
	// Output: 1 event waits to be published
}

// Many messages take one round trip, and are published in the order of the arguments. A nil payload
// is a tombstone.
func ExampleInsert_many() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)

	var messages []outbox.Message
	for _, item := range []string{"apple", "pear", "plum"} {
		messages = append(messages, outbox.Message{AggregateType: "item", AggregateID: item, Type: "ItemAdded", Payload: []byte("1")})
	}
	messages = append(messages, outbox.Message{AggregateType: "item", AggregateID: "pear", Type: "ItemRemoved", Payload: nil})

	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		ids, err := outbox.Insert(ctx, tx, messages...)
		fmt.Println(len(ids), "messages written")
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	rows, err := conn.Query(ctx, "SELECT type || ' ' || aggregate_id || ' ' || coalesce(convert_from(payload, 'UTF8'), 'NULL') FROM outbox ORDER BY id")
	if err != nil {
		fmt.Println(err)
		return
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, line := range lines {
		fmt.Println(line)
	}
	// Output:
	// 4 messages written
	// ItemAdded apple 1
	// ItemAdded pear 1
	// ItemAdded plum 1
	// ItemRemoved pear NULL
}

// A savepoint works like any transaction: what is rolled back to it is never published.
func ExampleInsert_savepoint() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)

	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		paid := outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderPaid", Payload: []byte("{}")}
		if _, err := outbox.Insert(ctx, tx, paid); err != nil {
			return err
		}
		attempt := pgx.BeginFunc(ctx, tx, func(savepoint pgx.Tx) error {
			shipped := outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderShipped", Payload: []byte("{}")}
			if _, err := outbox.Insert(ctx, savepoint, shipped); err != nil {
				return err
			}
			return fmt.Errorf("no carrier today")
		})
		fmt.Println(attempt)
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	var types string
	if err := conn.QueryRow(ctx, "SELECT string_agg(type, ' ') FROM outbox").Scan(&types); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(types)
	// Output:
	// no carrier today
	// OrderPaid
}
