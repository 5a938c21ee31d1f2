//go:build long

package inbox

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// fault counts a fault that is made beside the others.
func (s *inboxStorm) fault(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beside[name]++
}

// consumersPostgres starts a server for consumers alone and returns an empty database of it. Its
// log is written out rarely, so that a crash takes whatever was committed without waiting for the
// disk.
func consumersPostgres(t testing.TB) (server *sandbox.Postgres, databaseURL string) {
	t.Helper()
	options := kit.PostgresOptions()
	options.Parameters["wal_writer_delay"] = "10s"
	options.Parameters["wal_writer_flush_after"] = "1GB"
	server, err := sandbox.StartPostgres(t.Context(), options)
	if err != nil {
		t.Fatalf("no Postgres: %v", err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	if databaseURL, err = server.CreateDatabase(t.Context(), "consumer"); err != nil {
		t.Fatal(err)
	}
	return server, databaseURL
}

// crash ends a server as a power cut would, and starts it again.
func crash(t testing.TB, server *sandbox.Postgres) {
	t.Helper()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// breakOwnStatements lets the inbox's own statements fail, every now and then for some seconds and
// once for a long time, until ctx ends. No handler runs in such a time, so no message may be blamed
// for it.
func (s *inboxStorm) breakOwnStatements(ctx context.Context, long time.Duration) {
	long = min(long, time.Minute)
	for ctx.Err() == nil {
		kit.Wait(ctx, time.Duration(rand.Int64N(int64(15*time.Second))))
		length := time.Duration(rand.Int64N(int64(4 * time.Second)))
		if long > 0 {
			length, long = long, 0
		}
		switch rand.IntN(4) {
		case 0:
			s.renameMarks(ctx, length)
		case 1:
			s.lockMarks(ctx, length)
		case 2:
			s.vacuumFull(ctx, "inbox_parked_keys")
		case 3:
			s.vacuumFull(ctx, "inbox")
		}
	}
}

// renameMarks takes the table of marks away.
func (s *inboxStorm) renameMarks(ctx context.Context, length time.Duration) {
	const settings = "SET lock_timeout = '3s'; SET synchronous_commit = on; "
	if !s.c.try(ctx, settings+"ALTER TABLE inbox RENAME TO inbox_aside") {
		return
	}
	s.fault("marks renamed")
	kit.Wait(ctx, length)
	kit.Eventually(s.t, time.Minute, "the table of marks is back", func() bool {
		return s.c.try(context.WithoutCancel(ctx), settings+"ALTER TABLE IF EXISTS inbox_aside RENAME TO inbox")
	})
}

// vacuumFull writes a table again under the lock that nothing shares.
func (s *inboxStorm) vacuumFull(ctx context.Context, table string) {
	conn, err := kit.ConnectBriefly(ctx, s.c.url)
	if err != nil {
		return
	}
	defer kit.CloseQuietly(conn)
	if err := kit.Statements("SET lock_timeout = '3s'", "VACUUM FULL "+table)(ctx, conn); err != nil {
		s.t.Logf("VACUUM FULL %s: %v", table, err)
		return
	}
	s.fault("VACUUM FULL " + table)
}

// lockMarks holds the lock of VACUUM FULL and ALTER TABLE on the marks, while the consumers'
// sessions have little patience with locks.
func (s *inboxStorm) lockMarks(ctx context.Context, length time.Duration) {
	conn, err := kit.ConnectBriefly(ctx, s.c.url)
	if err != nil {
		return
	}
	defer kit.CloseQuietly(conn)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '3s'; LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"); err != nil {
			return err
		}
		kit.Wait(ctx, length)
		return nil
	})
	if err != nil {
		s.t.Logf("the marks were not locked, or not to the end: %v", err)
		return
	}
	s.fault("marks locked")
}
