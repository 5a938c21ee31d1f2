// Package outboxsql is package outbox for code that uses database/sql: the same messages, rules,
// errors and configuration, and a *sql.Tx in place of a pgx.Tx. It works with any Postgres driver;
// pgx's stdlib and lib/pq are tested.
//
// Drivers differ in the Go types that they take for arrays, so this package uses none: every
// parameter is a text, which the statement casts to an array. The text of the statement is the same
// for any number of messages, and needs no care about Postgres's limit of 65,535 parameters. The
// price is that a payload crosses the wire in hexadecimal, which is how text-format drivers send
// bytea in any case.
package outboxsql
