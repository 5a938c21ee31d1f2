// Package inbox tests consumers with an inbox on real Postgres and Kafka: crashes, outages, poison
// and retention.
package inbox
