// Package peers measures the relay beside what people use in its place, in one run and in turn, on
// the same servers and the same table: Debezium on Kafka Connect with exactly-once, tuned and as
// people run it, and a poller that people write themselves, alone and four at a time.
//
// The measurements have the tag bench; `make bench-peers` runs them. What they found is written as
// lines of JSON and as a page with plots, which this package makes without servers. What the figures
// mean, and the fields of the lines, stand in docs/performance.md.
package peers
