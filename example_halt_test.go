package relay_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/outbox-relay/relay"
)

// A lane halts if Postgres and Kafka contradict each other. The hook Changed is the place for an
// alert; a person then compares the choices and applies one.
func ExampleRecovery() {
	databaseURL, brokers := servers()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	config := &relay.Config{DatabaseURL: databaseURL, Brokers: brokers, Topics: relay.Topics{Create: true}}
	publishAndForget(ctx, config) // the checkpoint topic is deleted meanwhile

	config.Hooks.Changed = func(lane relay.LaneStatus) {
		halt := (*relay.HaltError)(nil)
		if errors.As(lane.Err, &halt) {
			fmt.Println("lane", lane.Lane, "halted:", halt.Cause)
			stop()
		}
	}
	r, err := relay.New(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := r.Run(ctx); err != nil {
		fmt.Println(err)
		return
	}

	ctx = context.Background()
	recovery, err := relay.NewRecovery(config, "outbox")
	if err != nil {
		fmt.Println(err)
		return
	}
	findings, err := recovery.Inspect(ctx, relay.Look{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, option := range findings.Choices {
		fmt.Printf("%s: %d new, %d again, %d skipped\n", option.Choice, option.New.Count, option.Again.Count, option.Skipped.Count)
	}
	outcome, err := recovery.Apply(ctx, relay.Decision{
		Choice: relay.ChoosePostgres, Who: "ada", Why: "the checkpoint topic was deleted by mistake",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("settled by", outcome.Chosen.Choice)
	// Output:
	// lane outbox halted: checkpoint-lost
	// postgres: 0 new, 0 again, 0 skipped
	// restart-from: 0 new, 2 again, 0 skipped
	// skip-to-now: 0 new, 0 again, 0 skipped
	// settled by postgres
}
