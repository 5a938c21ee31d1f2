// Package exampledb gives the examples of outbox and outboxsql a database to run on, with the
// outbox installed. Only their tests import it.
package exampledb
