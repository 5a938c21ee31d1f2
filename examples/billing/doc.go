// Command billing is a small service that consumes the events of examples/orders through the inbox.
// For each order it moves money between two accounts, which must not happen twice, writes an
// invoice, and tells of it in its own outbox: all in the transaction that marks the message as
// handled.
//
// Environment: BILLING_DATABASE_URL, of a database with the tables of `relay migrate up` and
// `relay inbox migrate up`; BILLING_BROKERS, HOST:PORT, with commas between them; BILLING_TOPIC,
// outbox.event.order by default; BILLING_INSTANCE, a name that no other process of billing has,
// none by default.
package main
