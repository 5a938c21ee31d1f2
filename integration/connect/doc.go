// Package connect starts Kafka Connect with Debezium's connector for Postgres: a distributed worker
// on a Kafka that runs, and the calls of its REST interface that a measurement needs. Both are
// fetched with Maven once, and compared with digests.
//
// It knows nothing of the relay. Package integration/bench measures the relay beside it.
package connect
