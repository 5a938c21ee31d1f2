// Package operator is what a person does about the relay and its consumers through the database,
// behind relay status, relay parked and relay inbox.
//
// It has two sides with the same verbs, List, Show, Payload, Plan, an action, Await and Idle:
//
//   - Outbox is about aggregates whose rows could not be published, in outbox_parked.
//   - Inbox is about keys whose messages could not be handled, in inbox_parked; also about the
//     marks of a consumer, which a person forgets so that a replay handles messages again, and
//     about claims of effects.
//
// Lanes shows how each lane stands.
//
// Nothing here publishes or handles anything. A request is recorded with who asked and why, and
// the owner of the queue carries it out: the relay that runs the lane, or a process of the
// consumer, which has the handler. Only messages of an inbox are discarded right here, under the
// lock of their key. So it all works for a login that holds the role relay_operator or
// inbox_operator and no other, whether a relay or a consumer runs or not. What changes something is
// planned first, and the plan is what is printed in a dry run.
//
// The package reads and writes tables on a connection of its caller's, and may use preflight to
// explain errors. docs/status.md, docs/poison.md and docs/inbox-operations.md document the JSON
// forms; they are a contract.
package operator
