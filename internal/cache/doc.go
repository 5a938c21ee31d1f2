// Package cache keeps what was fetched once: the programs of a throw-away Postgres, the jars of a
// Kafka for tests.
//
// An entry is a folder that is either whole or absent: it is filled beside its final place, under a
// lock that other processes of the same user respect, and then renamed.
package cache
