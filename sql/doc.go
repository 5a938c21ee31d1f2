// Package migrations embeds the database schemas of the outbox and of the inbox: plain numbered SQL
// files, which psql runs as they are and golang-migrate picks up unchanged. They create everything
// in the first schema of the search_path, on Postgres 14 and later. Those of the inbox stand apart,
// in InboxFS: they belong into the database of a consumer.
//
// To apply migrations with another tool, use FS, or copy the files. The command
// relay migrate does it otherwise. With golang-migrate:
//
//	source, err := iofs.New(migrations.FS, ".")
//
// The file roles.sql beside them, embedded as Roles, holds least-privilege roles. It is not a
// migration, because roles belong to the whole cluster and not every team may create them: read it,
// and run it by hand.
package migrations
