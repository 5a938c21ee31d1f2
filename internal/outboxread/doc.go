// Package outboxread reads an outbox and makes records of its rows.
//
// A Reader reads what became visible since a position, page by page: rows that fit a page with one
// query (tail), others as a window that is drained in the order of ids. query.go has the queries
// and says why each plan is what it is; read.go takes the rows as they arrive; a Decoder makes
// records of them; a Page holds the records of one Kafka transaction and the position after them. A
// Clock keeps the time of the database, with which records are stamped.
//
// It writes to no table and asks no broker. Its session forbids writes.
package outboxread
