// Package workload writes to an outbox as a service would: every transaction changes accounts and
// inserts their events, in one of the ways in which services do it.
//
// An account's version counts its events under its row lock. So the version is the order in which
// transactions locked the aggregate, and the order in which a consumer must see the events.
//
// relay demo and the tests of integration/ use it. They say when to write and how the transactions
// are mixed, and keep the ledger (internal/harness/ledger): the demo in memory, the tests in the
// database, because their servers crash and the answer to a COMMIT may be lost.
package workload
