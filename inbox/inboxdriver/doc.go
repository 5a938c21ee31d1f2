// Package inboxdriver is what an inbox needs of a database driver. Package inbox has one for pgx
// and package inboxsql one for database/sql: services need not know this package. Implement Driver,
// and pass it to inbox.NewWithDriver, for transactions of another type.
package inboxdriver
