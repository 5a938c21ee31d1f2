// Package parking keeps the order of aggregates that have a row which cannot be sent.
//
// Such a row and all later rows of its aggregate go to outbox_parked, in order, and from there to
// Kafka or away when a person has decided, or when their topic is back. A Planner decides for each
// page which rows a batch sends, parks or leaves out, and makes a Plan (plan.go, planner.go;
// release.go for parked rows); pieces.go bounds what one transaction may hold for a topic. Rows
// writes what a plan parks and releases, in the transaction of the batch's intent, and undoes it by
// number (rows.go). A Queue reads parked rows and what people ask for (queue.go).
//
// The package writes to outbox_parked and outbox_parked_audit, and sends nothing to Kafka. Whether
// a row is poison is decided here if the relay can tell (Planner.refuses, and the faults that
// package outboxread notes of a page), and by the pipeline if only a broker can: that calls
// Planner.MarkPoison.
package parking
