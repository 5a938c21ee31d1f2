// Package backlog counts the rows that a lane has yet to publish, for metrics: how many there are,
// and how old the oldest one is.
//
// It looks every few seconds, on a session that does nothing else, so a lane that waits for Kafka
// or is busy is counted too. A look reads a bounded number of rows through the indexes, however
// many are retained or unpublished. Beyond that it estimates, and says so. It also finds out that
// the table is locked, and by which session.
//
// It decides nothing and writes nothing: what is published is known to package pipeline, and to the
// lane's row.
package backlog
