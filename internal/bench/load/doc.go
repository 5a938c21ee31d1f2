// Package load is what a bench puts into an outbox and how it reads the records that come of it:
// rows of a backlog, inserts at a steady rate, and a read_committed consumer that notes when each
// event arrives and whether one is lost, doubled, reordered or invented.
//
// Every event has a number, with which its payload begins, so one that arrives is known without a
// look at the database. Whatever publishes the rows is measured by the same code: the relay in
// package bench, and what it is compared with in integration/bench.
//
// The package knows the table outbox and Kafka, not who publishes.
package load
