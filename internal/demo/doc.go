// Package demo is `relay demo`: the main job of the relay, shown on its own servers and checked
// from outside.
//
// It starts a throw-away Postgres and a simulated Kafka broker, lets many writers commit and roll
// back business transactions that write to the outbox, runs the relay as a child process, kills
// that with SIGKILL again and again, and reads what arrived with a read_committed consumer. Nothing
// of the engine is trusted: the writers keep a ledger of what they committed, the consumer enters
// what it read, and the ledger tells what was lost, duplicated, reordered or invented.
//
// A second consumer, the bank, is a child process that moves money between accounts through package
// inbox. It is killed too, and some messages are produced again straight to the topic. What it
// booked is compared with the rows of the outbox.
//
// The files: demo.go runs it all; stage.go holds the servers; writer.go says what is written, with
// harness/workload, and gate.go paces it; relays.go starts and kills the relay; consumer.go reads;
// harness/ledger judges; bank.go is the bank, banks.go starts and kills it, echo.go sends messages
// again, effects.go judges; view.go shows progress and verdict.go the end.
package demo
