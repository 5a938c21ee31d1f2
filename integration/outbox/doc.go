// Package outbox tests the schema of the outbox, and the libraries that write to it.
package outbox
