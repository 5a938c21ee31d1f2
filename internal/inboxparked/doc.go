// Package inboxparked lets people look at the messages that a consumer has parked, and do something about them.
//
// A key is parked from the message on that could not be handled. Its messages stand in inbox_parked in their order, behind a
// row in inbox_parked_keys. A retry is asked for on that row, and a process of the consumer carries it out: only it has the
// handler. A message is discarded right here, under a lock on the same row that keeps away whoever adds or takes messages.
// All of it works for a login that holds the role inbox_operator only. docs/inbox-operations.md documents the JSON forms; they
// are a contract.
package inboxparked
