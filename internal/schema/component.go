package schema

import (
	"io/fs"

	migrations "github.com/outbox-relay/relay/sql"
)

// Component is a set of tables that comes into a database as a whole, with its own versions.
type Component struct {
	// Name is what the tables are: outbox or inbox.
	Name string
	// VersionTable records which migrations are in the schema.
	VersionTable string

	files    fs.FS
	list     func() []migrations.Migration
	lockName string // with the schema, what two Migrators exclude each other by

	anyEncoding bool // the tables may be in a database whose encoding is not UTF8
}

// The components. A database may hold either or both, also in one schema.
var (
	// Outbox are the tables of a service that writes events, and of the relay that publishes them.
	Outbox = Component{
		Name: "outbox", VersionTable: "relay_schema_migrations",
		files: migrations.FS, list: migrations.List, lockName: "relay migrate",
	}
	// Inbox are the tables of a service that consumes events.
	Inbox = Component{
		Name: "inbox", VersionTable: "relay_inbox_migrations",
		files: migrations.InboxFS, list: migrations.Inbox, lockName: "relay inbox migrate",
		anyEncoding: true,
	}
)

// Migrations returns every migration of the component in the order in which they are applied.
func (c Component) Migrations() []Migration { return wrap(c.list()) }
