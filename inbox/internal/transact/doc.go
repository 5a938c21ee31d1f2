// Package transact runs the transactions of an inbox. It owns their bounds (how long a process may
// hold locks), running one again that Postgres broke off because of another one, calling a handler
// with its deadline, whether a handler or the server is to blame for an error, and the incarnation
// of the database that a call is bound to. It does not know messages.
package transact
