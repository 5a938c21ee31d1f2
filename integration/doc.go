// Package integration holds the tests that need real servers, and the harness that starts these: a Postgres of its own
// (internal/sandbox) and real Apache Kafka (integration/cluster).
//
// The servers are started on first use, one of each for the whole run; every test gets a database and topics of its own.
// Tests that kill a server start one for themselves. RELAY_TEST_DATABASE_URL (a role that may create databases) and
// RELAY_TEST_BROKERS name servers to be used instead of those of the run. A test fails where a server cannot be had: it is
// never skipped. Consumers that tests kill are programs of their own (victim/process). Tests that take longer than half a
// minute are built with the tag "long".
package integration
