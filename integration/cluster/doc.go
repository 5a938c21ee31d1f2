// Package cluster starts real Apache Kafka brokers on the loopback address, for tests and
// benchmarks.
//
// Kafka is fetched as Maven artifacts on first use and cached. Every node is broker and controller
// (KRaft). A node can be killed, frozen and revived, and Kafka's own command line tools can be run
// as independent witnesses. Java 17 and Maven are needed; nothing else.
package cluster
