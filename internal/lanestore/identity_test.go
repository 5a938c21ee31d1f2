package lanestore

import (
	"context"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/position"
)

// VACUUM FULL and pg_repack move the row under its owner.
func TestAnOwnerFindsItsRowWhereVacuumFullPutIt(t *testing.T) {
	url := outboxtest.Database(t)
	row := laneOwner(t, url, "one")
	complete(t, row, 0)
	for seq := range int64(3) {
		if err := row.Intent(t.Context(), Intent{Seq: seq + 1, After: position.Position{From: position.Beginning}}, nil); err != nil {
			t.Fatal(err)
		}
		if got := outboxtest.Query[int64](t, outboxtest.Open(t, url), `SELECT seq FROM relay_lanes`); got != seq+1 {
			t.Fatalf("the row holds batch %d after the intent of %d", got, seq+1)
		}
		outboxtest.Exec(t, outboxtest.Open(t, url), `VACUUM FULL relay_lanes`)
	}
	next := laneOwner(t, url, "other")
	raiseEpoch(t, next)
	outboxtest.Exec(t, outboxtest.Open(t, url), `VACUUM FULL relay_lanes`)
	if err := row.Intent(t.Context(), Intent{Seq: 4, After: position.Position{From: position.Beginning}}, nil); !errors.Is(err, ErrLost) {
		t.Errorf("an intent after another has raised the epoch: %v", err)
	}
}

// A statement on the lane's session is let finish when its session of the pipeline ends: cancelling
// it would close the connection, and with it give up the lock.
func TestACancelledSessionKeepsTheLanesConnection(t *testing.T) {
	url := outboxtest.Database(t)
	row := laneOwner(t, url, "one")
	complete(t, row, 0)
	blocker := outboxtest.Open(t, url)
	outboxtest.Exec(t, blocker, `BEGIN; SELECT FROM relay_lanes FOR UPDATE`)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		written <- row.Intent(ctx, Intent{Seq: 1, After: position.Position{From: position.Beginning}}, nil)
	}()
	watcher := outboxtest.Open(t, url)
	for outboxtest.Query[int](t, watcher, `SELECT count(*)::int FROM pg_locks WHERE NOT granted`) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the intent never waited")
		}
	}
	cancel()
	outboxtest.Exec(t, blocker, `COMMIT`)
	if err := <-written; err != nil || row.conn.IsClosed() {
		t.Errorf("the intent ended with %v, and the connection is closed: %t", err, row.conn.IsClosed())
	}
}
