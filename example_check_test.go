package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/outbox"
)

// Check refuses records that must not reach Kafka. The aggregate of a refused row is parked: its
// later rows wait behind it, in order, and all other aggregates go on.
func ExampleConfig_check() {
	databaseURL, brokers := servers()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	write(ctx, databaseURL,
		outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderPaid", Payload: []byte(`{"order":`)},
		outbox.Message{AggregateType: "order", AggregateID: "42", Type: "OrderShipped", Payload: []byte(`{"order":"42"}`)},
		outbox.Message{AggregateType: "order", AggregateID: "43", Type: "OrderPaid", Payload: []byte(`{"order":"43"}`)},
	)

	r, err := relay.New(&relay.Config{
		DatabaseURL: databaseURL,
		Brokers:     brokers,
		Topics:      relay.Topics{Create: true},
		Check: func(record *kgo.Record) error {
			if !json.Valid(record.Value) {
				return errors.New("the payload is not JSON")
			}
			return nil
		},
		Hooks: relay.Hooks{Committed: func(b relay.Batch) {
			fmt.Println("sent", b.Rows, "parked", b.Parked)
			stop()
		}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output: sent 1 parked 2
}
