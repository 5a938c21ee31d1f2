// Package retention removes what is published and old from an outbox.
//
// A Cleaner runs beside the session of a lane's owner, on its own goroutine and connection. It is
// told the position of each batch that is committed in Kafka, and removes rows that are published
// by that position and older than the retention: one by one from a plain table (sweep.go),
// partition by partition from a partitioned one (partitions.go). It needs no fence, because the
// Cleaner of an owner that was superseded holds an older position, and what is published by that
// stays published. Whatever happens to it, publishing goes on.
//
// It writes to the outbox and to nothing else, and does not know Kafka.
package retention
