// Package relay tests relays on real Postgres and Kafka: crashes, outages, takeovers, poison,
// retention and recovery.
package relay
