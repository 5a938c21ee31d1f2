// Package integration has a room for each part of the project that is tested on real servers. A
// room is a package of tests:
//
//   - outbox: the migrations, the layouts of the table, and the Go libraries that write to it
//   - relay: from the outbox to Kafka, through kills and outages, and recovery
//   - inbox: from Kafka to effects, through kills and outages, and retention of the marks
//   - security: roles, grants, ACLs, TLS and SASL, and what logs show
//   - bench: relay bench, and what is measured with the tag bench; in peers, beside Debezium and a
//     home-made poller
//   - examples: the programs of examples/ in Go, Java and Python
//
// What rooms share is not a test: kit has the servers of a run, databases, relays as processes,
// writers with a ledger, and the verdict; cluster starts Apache Kafka and connect Kafka Connect with
// Debezium, which maven fetches; victim is a consumer that tests kill. CONTRIBUTING.md says what the
// tags long, bench and examples mean.
package integration
