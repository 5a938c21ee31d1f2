// Package access says what a deployment of the relay must be allowed: ACLs in Kafka and grants in
// Postgres. What it says is exactly enough, which integration tests show: with all of it the relay
// works, and without any part of it, it does not.
package access
