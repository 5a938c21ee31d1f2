// Package position says which rows of an outbox are published.
//
// A Snapshot is a pg_snapshot: which transactions had ended when it was taken. A Position is what a
// checkpoint records: the snapshot in which every row is published and, while a window is drained,
// the snapshot that ends the window with the id up to which it is. Published is the same question
// in SQL; all but the reader (package outboxread) and the cleaner of partitions use it.
//
// The package is pure: it reads no database and no clock.
package position
