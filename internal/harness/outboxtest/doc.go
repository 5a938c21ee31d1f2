// Package outboxtest is what tests of the relay's rooms do to an outbox in Postgres: a database
// with the outbox in it, statements, rows, partitions, and the plans of the relay's own queries.
//
// Only tests import it. The server is that of package testpg.
package outboxtest
