// Package relay publishes the rows of a transactional outbox in Postgres to Kafka: each committed
// row exactly once, and the rows of one aggregate in the order in which their transactions locked
// it. A service writes the rows with package outbox, in the transactions of its business writes.
//
// Most deployments run the command cmd/relay. This package is for programs that run the relay in
// their own process:
//
//	r, err := relay.New(&relay.Config{DatabaseURL: url, Brokers: []string{"kafka:9092"}})
//	if err != nil {
//		return err
//	}
//	return r.Run(ctx)
//
// The tables must exist: apply the migrations of package sql, or run "relay migrate up".
//
// A [Config] has one [Lane] for each outbox table. Run any number of processes with the same
// Config: each lane runs in one of them, and another takes it over when that one ends. While
// Postgres, a broker or a topic is unavailable the relay waits and goes on by itself;
// [Relay.Status] and the hook Changed say what it waits for.
//
// If Postgres and Kafka contradict each other, for example because the database was restored from a
// backup, the lane stops: its state is [Halted], and the error in its [LaneStatus] is a
// [HaltError]. Publishing on would be a guess that loses or repeats events. [Recovery] shows what
// each choice would publish again or skip, and applies the one that a person has made, as the
// command relay recover does.
//
// A row that can never be sent is set aside with the later rows of its aggregate, unless
// [Config].Poison says otherwise. [Config].Check lets a program add its own reasons, such as a
// schema.
//
// [Hooks] are called for each committed batch and each change of a lane, for metrics and alerts.
package relay
