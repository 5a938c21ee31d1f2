// Package pg opens the product's own sessions on Postgres, all of them in one way.
//
// What a statement sees and does depends on the settings of its session, and those come from many
// places: the server's files, ALTER DATABASE … SET, ALTER ROLE … SET, the connection string,
// PGOPTIONS, a login trigger, a pooler in between. So every setting that matters is pinned when a
// session is opened, and then read back. A session that does not have what was asked for is refused
// with a SettingError.
//
// Pinned are the settings that decide what a statement sees (isolation, row_security, read-only),
// whether its commit is on disk, how long it may take, how values look as text, which plans are
// possible, and in which schemas names are looked up. Users may set the rest in the connection
// string, such as log_min_duration_statement, work_mem, the costs of the planner, role, and
// target_session_attrs. Their search_path chooses the schema; see Options.Schema.
//
// A Database opens all sessions of one owner on the primary and in one schema. Identify reads which
// server and database a session talks to, and CheckServer refuses a session on another one.
package pg
