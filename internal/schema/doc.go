// Package schema brings the tables of the outbox, or those of the inbox, into a database and takes
// them out again.
//
// It runs the numbered files of package migrations with golang-migrate. Each of the two has a table
// of versions for itself, relay_schema_migrations and relay_inbox_migrations, so that both may
// stand in one schema, and an application that uses the same tool keeps its own. Each file is sent
// as one query, which Postgres runs as one transaction: a migration is there whole or not at all,
// and one that Postgres refused is recorded as if never begun. What would delete rows is refused
// unless it is asked for, and the check holds a lock until the tables are gone, so that no row
// slips in between.
package schema
