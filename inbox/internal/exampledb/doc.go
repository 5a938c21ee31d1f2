// Package exampledb gives the tests and examples of inbox and inboxsql a database to run on, with
// the inbox and the outbox installed. Only their tests import it.
package exampledb
