// Package ledger compares what was committed with what arrived: it says which messages were lost,
// duplicated, reordered or invented.
//
// Every event carries the version that its aggregate had under the aggregate's row lock, so the
// order in which events must arrive is known without the engine. relay demo enters events while
// they happen; the tests in integration/ judge once all is over, records and effects alike. The
// package does no I/O.
package ledger
