// Package kafkaclient owns what every Kafka client of the relay has in common: its options, and a
// log that says the same thing once a minute instead of at every attempt.
package kafkaclient
