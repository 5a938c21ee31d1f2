package outbox_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/outbox"
	"github.com/outbox-relay/relay/outbox/internal/exampledb"
)

// An aggregate without a row to lock, such as a customer whose events alone are kept: take it by
// name, then insert.
func ExampleLockAggregate() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, exampledb.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)

	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := outbox.LockAggregate(ctx, tx, "customer", "7"); err != nil {
			return err
		}
		_, err := outbox.Insert(ctx, tx, outbox.Message{
			AggregateType: "customer", AggregateID: "7", Type: "CustomerMoved", Payload: []byte(`{"city":"Oslo"}`),
		})
		return err
	})
	fmt.Println("error:", err)
	// Output: error: <nil>
}
