// Relay publishes the events of a transactional outbox in Postgres to Kafka.
//
// The commands are run, migrate, status, parked, inbox, recover, acl, bench, demo and version.
// relay COMMAND --help describes each, and docs/cli.md all of them. The package holds what a person
// sees (arguments, output, exit status); the work is done by the packages under internal.
//
// Every command ends with status 0, with 1 if something failed, or with 2 if the arguments or the
// configuration are wrong. Errors go to standard error as "Error:" with what is wrong and "Try:"
// with what to do about it.
package main
