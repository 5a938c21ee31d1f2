// Package inboxmarks is what people do with the marks of an inbox: remove them on purpose, so that a replay handles messages again;
// settle claims of which nobody knows whether their effect happened; and see which consumers there are.
//
// What changes something is planned first, and the plan is what is printed in a dry run. Each change is recorded in inbox_audit with
// who made it and why. It works for a login that holds the role inbox_operator only. docs/inbox-operations.md documents the
// JSON forms; they are a contract.
package inboxmarks
