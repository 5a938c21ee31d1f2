package outbox_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/outbox"
)

// Every fault of every message is found at once, before anything is sent: the transaction can go
// on.
func ExampleInvalidError() {
	var tx struct{ pgx.Tx } // a transaction that the example never gets to use

	_, err := outbox.Insert(context.Background(), tx,
		outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderPaid"},
		outbox.Message{AggregateType: "order", Type: "OrderPaid", Topic: "orders/paid"},
		outbox.Message{AggregateType: "order", AggregateID: "43", Type: "OrderPaid", Headers: map[string]string{"msg_id": "7"}},
	)

	var invalid *outbox.InvalidError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			fmt.Println(fault)
		}
	}
	// Output:
	// message 1: AggregateID is empty
	// message 1: Topic has the character '/'; Kafka allows letters, digits, '.', '_' and '-'
	// message 2: Headers has the name "msg_id", which the relay sets itself
}

// A configuration is checked as a whole, too.
func ExampleNew() {
	_, err := outbox.New(&outbox.Config{Table: "billing.", MaxBytes: -1})
	fmt.Println(err)

	_, err = outbox.New(&outbox.Config{Table: "billing.outbox", MaxBytes: 5_000_000, Route: "billing.{aggregate_type}.v1"})
	fmt.Println(err)
	// Output:
	// outbox: Table: table "billing.": a name is empty
	// outbox: MaxBytes: -1 is not between 1 and 268435456
	// <nil>
}
