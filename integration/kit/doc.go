// Package kit is what the tests on real servers share. It holds no tests but its own.
//
// A Postgres and a Kafka are started on first use, one of each for the tests of a package; every
// test gets a database and topics for itself. A test that kills a server starts one for itself
// (OwnPostgres, OwnCluster). RELAY_TEST_DATABASE_URL and RELAY_TEST_BROKERS name servers to be used
// instead. If a server cannot be had, a test fails: it is never skipped.
//
// The relays are processes (StartRelay), built with their failpoints. Workload writes events as a
// service would and keeps a ledger of them; Judge compares the ledger with what a consumer sees.
package kit
