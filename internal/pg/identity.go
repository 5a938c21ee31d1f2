package pg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Identity tells one database, on one server and timeline, from all others, also from its copies.
type Identity struct {
	// SystemIdentifier of the Postgres cluster, made by initdb and kept by physical copies.
	SystemIdentifier string `json:"system_identifier"`
	// Timeline of the write-ahead log; a promotion raises it.
	Timeline int64 `json:"timeline"`
	// Database is the name, DatabaseOID the object id: a restored dump has another one.
	Database    string `json:"database"`
	DatabaseOID uint32 `json:"database_oid"`
	// LanesSchema is the schema of relay_lanes, LanesSchemaOID and LanesOID the object ids of both:
	// they tell deployments in one database apart. Either id may change, by a move of the table or
	// a dump of it, and it is the same deployment.
	LanesSchema    string `json:"lanes_schema,omitempty"`
	LanesSchemaOID uint32 `json:"lanes_schema_oid,omitempty"`
	LanesOID       uint32 `json:"lanes_oid,omitempty"`
}

// SameDatabase reports whether the object ids of i mean in live what they meant in i.
func (i Identity) SameDatabase(live Identity) bool {
	return i.SystemIdentifier == live.SystemIdentifier && i.DatabaseOID == live.DatabaseOID
}

// Server is the server that a session talks to, and since when it runs.
type Server struct {
	Identity
	Started time.Time
}

// ErrStandby says that Identify was asked about a standby: its snapshots say nothing about
// transactions that run on the primary.
var ErrStandby = errors.New("this Postgres server is a standby; the relay reads on the primary, and waits for one")

// Identify reads which server the session talks to. A standby is ErrStandby.
func Identify(ctx context.Context, conn *pgx.Conn) (Server, error) {
	var s Server
	var standby bool
	// Two statements: a standby cannot tell where its write-ahead log is.
	if err := conn.QueryRow(ctx, `SELECT pg_is_in_recovery()`).Scan(&standby); err != nil {
		return s, fmt.Errorf("read the identity of the server: %w", err)
	}
	if standby {
		return s, ErrStandby
	}
	err := conn.QueryRow(ctx, `
SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint,
       current_database(), (SELECT oid FROM pg_database WHERE datname = current_database()), pg_postmaster_start_time(),
       coalesce(n.nspname, ''), coalesce(n.oid, 0), coalesce(c.oid, 0)
FROM pg_control_system() LEFT JOIN pg_class c ON c.oid = to_regclass('relay_lanes') LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`).
		Scan(&s.SystemIdentifier, &s.Timeline, &s.Database, &s.DatabaseOID, &s.Started, &s.LanesSchema, &s.LanesSchemaOID, &s.LanesOID)
	if err != nil {
		return s, fmt.Errorf("read the identity of the server: %w", err)
	}
	return s, nil
}

// CheckServer checks that the session talks to the server want. A name may stand for several
// servers, and rows of one must not be published under the intents of another.
func CheckServer(ctx context.Context, conn *pgx.Conn, want Server) error {
	ctx, cancel := context.WithTimeout(ctx, StatementTimeout)
	defer cancel()
	got, err := Identify(ctx, conn)
	if err != nil {
		return err
	}
	if got.Identity != want.Identity || !got.Started.Equal(want.Started) {
		return errors.New("the address of Postgres led to two different servers; it must lead to the primary only")
	}
	return nil
}

// StatementTimeout bounds each short statement that the relay runs for itself.
const StatementTimeout = 15 * time.Second
