// Package parked lets people look at what the relay has parked, and ask for something to be done about it.
//
// An aggregate is parked from the row on that could not be published. Its rows stand in outbox_parked, in the order in which
// they are to be published; rows with released_seq set are on their way out and count as parked no more. Nothing in here
// touches those rows: a request is a row in outbox_parked_audit, with who asked and why, and the relay that runs the lane
// carries it out in a batch and writes down what came of it. So it works for a login that holds the role relay_operator only,
// whether a relay runs or not.
//
// A request is written by the statement that finds the rows parked: the owner of a lane looks for requests only while
// something is. docs/poison.md documents the JSON forms; they are a contract.
package parked
