package relay

import (
	"context"
	"errors"
	"testing"

	"github.com/outbox-relay/relay/internal/position"
)

// VACUUM FULL and pg_repack move the row under its owner.
func TestAnOwnerFindsItsRowWhereVacuumFullPutIt(t *testing.T) {
	url := newDatabase(t)
	row := laneOwner(t, url, "one")
	claim(t, row, 0)
	for seq := range int64(3) {
		if err := row.intent(t.Context(), seq+1, &plan{after: position.Position{From: position.Beginning}}, false); err != nil {
			t.Fatal(err)
		}
		if got := query[int64](t, open(t, url), `SELECT seq FROM relay_lanes`); got != seq+1 {
			t.Fatalf("the row holds batch %d after the intent of %d", got, seq+1)
		}
		exec(t, open(t, url), `VACUUM FULL relay_lanes`)
	}
	next := laneOwner(t, url, "other")
	announce(t, next)
	exec(t, open(t, url), `VACUUM FULL relay_lanes`)
	if err := row.intent(t.Context(), 4, &plan{after: position.Position{From: position.Beginning}}, false); !errors.Is(err, errLost) {
		t.Errorf("an intent after another has announced itself: %v", err)
	}
}

// A statement on the lane's session is let finish when its session of the pipeline ends: cancelling it would close the
// connection, and with it give up the lock.
func TestACancelledSessionKeepsTheLanesConnection(t *testing.T) {
	url := newDatabase(t)
	row := laneOwner(t, url, "one")
	claim(t, row, 0)
	blocker := open(t, url)
	exec(t, blocker, `BEGIN; SELECT FROM relay_lanes FOR UPDATE`)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		written <- row.intent(ctx, 1, &plan{after: position.Position{From: position.Beginning}}, false)
	}()
	watcher := open(t, url)
	for query[int](t, watcher, `SELECT count(*)::int FROM pg_locks WHERE NOT granted`) == 0 {
		if t.Context().Err() != nil {
			t.Fatal("the intent never waited")
		}
	}
	cancel()
	exec(t, blocker, `COMMIT`)
	if err := <-written; err != nil || row.conn.IsClosed() {
		t.Errorf("the intent ended with %v, and the connection is closed: %t", err, row.conn.IsClosed())
	}
}
