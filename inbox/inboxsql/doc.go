// Package inboxsql is the inbox for services that use database/sql: New returns an inbox whose
// handlers get a *sql.Tx. Everything else is as package inbox describes it. Any driver for Postgres
// will do whose errors tell their SQLSTATE by a method SQLState, as those of
// github.com/jackc/pgx/v5/stdlib and github.com/lib/pq do.
package inboxsql
