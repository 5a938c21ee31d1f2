// Package tables has the texts of all statements on the inbox tables, the forms in which values are
// sent (arrays and ids), and what Postgres can store. It runs nothing.
package tables
