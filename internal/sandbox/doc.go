// Package sandbox starts throw-away servers: a Postgres of one's own (StartPostgres) and a Kafka
// broker inside the process (StartBroker). `relay demo` runs on them, and so do tests.
//
// The Postgres is a real one: an installed server where there is one, or binaries that are fetched
// once and cached. It can be killed and started again on the same data and port, which is how a
// crash is tried. Neither a process nor a folder is left behind: Stop removes both, and on Linux
// the server ends with the program that started it even if that program is killed.
//
// The broker is a simulation with transactions and consumer groups but without replication or
// durability. It shows how the relay works; it is no evidence of what happens when a broker
// crashes.
package sandbox
