package lanestore

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// nothingParked stands for batches that park nothing.
type nothingParked struct{}

func (nothingParked) Undo(context.Context, pgx.Tx, int64) error               { return nil }
func (nothingParked) Settle(context.Context, pgx.Tx, int64) error             { return nil }
func (nothingParked) GoBack(context.Context, pgx.Tx, position.Position) error { return nil }

// laneOwner opens the lane's row for a process of the given name.
func laneOwner(t testing.TB, url, name string) *Row {
	t.Helper()
	row, err := Open(t.Context(), Options{
		Lane: "outbox", Table: "outbox", Owner: name, WorkTimeout: 5 * time.Second, Parked: nothingParked{},
		Database: &pg.Database{URL: func() (string, error) { return url, nil }, Beside: LanesTable},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(row.Close)
	return row
}

// registered gives the lane its row.
func registered(t testing.TB, row *Row) {
	t.Helper()
	if _, err := row.Register(t.Context(), []string{row.o.Lane}); err != nil {
		t.Fatal(err)
	}
}

func raiseEpoch(t testing.TB, row *Row) checkpoint.ClusterIdentity {
	t.Helper()
	identity, err := row.RaiseEpoch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return identity
}

func complete(t testing.TB, row *Row, seq int64) {
	t.Helper()
	identity := raiseEpoch(t, row)
	if err := row.Complete(t.Context(), checkpoint.Record{Seq: seq, Position: position.Position{From: position.Beginning}}, identity); err != nil {
		t.Fatal(err)
	}
}

func TestLaneRowLivesThroughATakeover(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	row := laneOwner(t, url, "host/1/a")
	identity := raiseEpoch(t, row)
	conn := outboxtest.Open(t, url)
	if want := outboxtest.Query[string](t, conn, `SELECT system_identifier::text FROM pg_control_system()`); identity.SystemIdentifier != want {
		t.Errorf("system identifier %s, want %s", identity.SystemIdentifier, want)
	}
	if identity.Timeline != 1 || identity.DatabaseOID == 0 || identity.Database != outboxtest.Query[string](t, conn, `SELECT current_database()`) {
		t.Errorf("identity %+v", identity)
	}
	state, err := row.Read(t.Context())
	if err != nil || state != (Past{}) {
		t.Fatalf("a new lane reads %+v, %v", state, err)
	}
	if err := row.Complete(t.Context(), checkpoint.Record{Position: position.Position{From: position.Beginning}}, identity); err != nil {
		t.Fatal(err)
	}
	window := position.Position{From: position.Beginning, To: position.Snapshot{Xmin: 5, Xmax: 9, Xip: []uint64{5, 7}}, LastID: 42}
	for seq, after := range []position.Position{window, window.Closed()} {
		if err := row.Intent(t.Context(), Intent{Seq: int64(seq + 1), After: after}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := row.Say(t.Context(), "waiting", "a topic is missing"); err != nil {
		t.Fatal(err)
	}
	if state, err = row.Read(t.Context()); err != nil || state.Seq != 2 || !state.Started || !reflect.DeepEqual(*state.Identity, identity) {
		t.Errorf("the row reads %+v, %v", state, err)
	}
	said := outboxtest.Query[string](t, conn, `SELECT concat_ws('|', seq, owner, snapshot_from, snapshot_to, last_id, state, reason) FROM relay_lanes`)
	if want := "2|host/1/a|5:9:5,7|waiting|a topic is missing"; said != want {
		t.Errorf("the row says %q, want %q", said, want)
	}
}

func TestIntentsCountUpByOne(t *testing.T) {
	row := laneOwner(t, outboxtest.Database(t), "a")
	complete(t, row, 7)
	for _, seq := range []int64{7, 9, 6, 0} {
		if err := row.Intent(t.Context(), Intent{Seq: seq, After: position.Position{From: position.Beginning}}, nil); !errors.Is(err, ErrLost) {
			t.Errorf("intent %d after 7: %v", seq, err)
		}
	}
	if err := row.Intent(t.Context(), Intent{Seq: 8, After: position.Position{From: position.Beginning}}, nil); err != nil {
		t.Errorf("intent 8 after 7: %v", err)
	}
}

func TestATakeoverWithdrawsAnIntentThatWasNotCommitted(t *testing.T) {
	url := outboxtest.Database(t)
	first, second := laneOwner(t, url, "first"), laneOwner(t, url, "second")
	complete(t, first, 3)
	if err := first.Intent(t.Context(), Intent{Seq: 4, After: position.Position{From: position.Beginning}}, nil); err != nil {
		t.Fatal(err)
	}
	complete(t, second, 3)
	if err := second.Intent(t.Context(), Intent{Seq: 4, After: position.Position{From: position.Beginning}}, nil); err != nil {
		t.Errorf("the batch cannot be done again: %v", err)
	}
}

// Everything that a stale owner could still write fails, from the moment another has raised the
// epoch.
func TestAStaleOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	stale, next := laneOwner(t, url, "stale"), laneOwner(t, url, "next")
	complete(t, stale, 3)
	raiseEpoch(t, next)
	identity := checkpoint.ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "1"}}
	for what, err := range map[string]error{
		"intent":   stale.Intent(t.Context(), Intent{Seq: 4, After: position.Position{From: position.Beginning}}, nil),
		"complete": stale.Complete(t.Context(), checkpoint.Record{Seq: 9, Position: position.Position{From: position.Beginning}}, identity),
		"say":      stale.Say(t.Context(), "halted", "no"),
	} {
		if !errors.Is(err, ErrLost) {
			t.Errorf("%s of a stale owner: %v", what, err)
		}
	}
	if _, err := stale.Read(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("read of a stale owner: %v", err)
	}
	state, err := next.Read(t.Context())
	if err != nil || state.Seq != 3 {
		t.Errorf("the next owner reads %+v, %v", state, err)
	}
	if owner := outboxtest.Query[string](t, outboxtest.Open(t, url), `SELECT owner || ' ' || state FROM relay_lanes`); owner != "next running" {
		t.Errorf("the row says %q", owner)
	}
}

func TestOfManyThatRaiseTheEpochOneIsLeft(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	rows := make([]*Row, 8)
	for i := range rows {
		rows[i] = laneOwner(t, url, fmt.Sprint(i))
	}
	var group sync.WaitGroup
	errs := make([]error, len(rows))
	for i, row := range rows {
		group.Go(func() {
			var identity checkpoint.ClusterIdentity
			if identity, errs[i] = row.RaiseEpoch(t.Context()); errs[i] == nil {
				errs[i] = row.Complete(t.Context(), checkpoint.Record{Position: position.Position{From: position.Beginning}}, identity)
			}
		})
	}
	group.Wait()
	epochs := make(map[int64]bool)
	for i, row := range rows {
		if errs[i] != nil && !errors.Is(errs[i], ErrLost) {
			t.Fatal(errs[i])
		}
		epochs[row.epoch] = true
	}
	if len(epochs) != len(rows) {
		t.Errorf("%d owners share %d epochs", len(rows), len(epochs))
	}
	for i, row := range rows {
		err := row.Intent(t.Context(), Intent{Seq: 1, After: position.Position{From: position.Beginning}}, nil)
		if last := row.epoch == int64(len(rows)); last != (err == nil) || last != (errs[i] == nil && err == nil) {
			t.Errorf("owner with epoch %d of %d: complete %v, intent %v", row.epoch, len(rows), errs[i], err)
		}
	}
}

// A transaction that stays open anywhere on the server keeps every version of the row that an
// intent leaves behind.
func TestAnIntentCostsTheSameUnderAnOldSnapshot(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	row, old := laneOwner(t, url, "a"), outboxtest.Open(t, url)
	complete(t, row, 0)
	outboxtest.Exec(t, old, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM relay_lanes`)
	at := position.Position{From: position.Beginning}
	const intents = 5000
	for seq := range int64(intents) {
		if err := row.Intent(t.Context(), Intent{Seq: seq + 1, After: at}, nil); err != nil {
			t.Fatal(err)
		}
	}
	name := outboxtest.Query[string](t, row.conn, `SELECT name FROM pg_prepared_statements WHERE statement LIKE $1`, "%CASE WHEN $8%")
	total := 0
	const measured = 200
	for seq := range measured {
		plan := outboxtest.Explain(t, row.conn, true, name, row.location, "outbox", fmt.Sprint(row.epoch), fmt.Sprint(intents+1+seq), at.From.String(), at.From.String(), "1", "false")
		total += plan.Buffers()
		plan.Walk(func(n *outboxtest.Plan) {
			if n.Relation == "relay_lanes" && n.Type != "ModifyTable" && (n.Type != "Tid Scan" || n.Rows != 1) {
				t.Fatalf("the row is found by a %s with %v rows", n.Type, n.Rows)
			}
		})
		row.location = outboxtest.Query[string](t, row.conn, `SELECT ctid::text FROM relay_lanes`)
	}
	if mean := float64(total) / measured; mean > 20 {
		t.Errorf("an intent touches %.1f buffers after %d others", mean, intents)
	} else {
		t.Logf("an intent touches %.1f buffers after %d others", mean, intents)
	}
}

func TestTheLockShowsItsHolder(t *testing.T) {
	t.Parallel()
	url := outboxtest.Database(t)
	holder, other := laneOwner(t, url, "holder"), laneOwner(t, url, "other")
	registered(t, holder)
	if h, err := other.Holder(t.Context()); h != (Holding{}) || err != nil {
		t.Fatalf("a free lock: %+v, %v", h, err)
	}
	// Neither another lane nor another advisory lock is taken for this one.
	outboxtest.Exec(t, outboxtest.Open(t, url), `SELECT pg_advisory_lock(1), pg_advisory_lock(1, 2), pg_advisory_lock(hashtextextended('relay lane other', 0))`)
	if ok, err := holder.TryLock(t.Context()); !ok || err != nil {
		t.Fatalf("a free lock is refused: %v", err)
	}
	if ok, err := other.TryLock(t.Context()); ok || err != nil {
		t.Fatalf("the lock is held twice: %v", err)
	}
	h, err := other.Holder(t.Context())
	if err != nil || h.Owner != int32(holder.conn.PgConn().PID()) || h.Silent < 0 || h.Silent > time.Minute || !h.Taken || h.Stranger != "" {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := holder.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Evict(t.Context(), h.Owner); err != nil {
		t.Fatal(err)
	}
	if err := holder.Ping(t.Context()); err == nil {
		t.Error("an evicted owner's session lives")
	}
	deadline := time.Now().Add(45 * time.Second)
	for {
		ok, err := other.TryLock(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the lock of an evicted owner is not free: %v", err)
		}
		if ok {
			return
		}
	}
}

func TestTheLockOfAnotherDatabaseIsAnother(t *testing.T) {
	one, two := laneOwner(t, outboxtest.Database(t), "one"), laneOwner(t, outboxtest.Database(t), "two")
	if ok, err := one.TryLock(t.Context()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if h, err := two.Holder(t.Context()); h != (Holding{}) || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if ok, err := two.TryLock(t.Context()); !ok || err != nil {
		t.Error("the same lane of another database is locked too", err)
	}
}

func TestDifferencesNameEachSettingThatBothKnow(t *testing.T) {
	was := Settings{"route": "a", "poison": "park", "gone": "1"}
	for want, is := range map[string]Settings{
		"":                         {"route": "a", "poison": "park", "new": "2"},
		`route was "a" and is "b"`: {"route": "b", "poison": "park"},
		`poison was "park" and is "halt"; route was "a" and is "b"`: {"route": "b", "poison": "halt"},
	} {
		if got := was.differences(is); got != want {
			t.Errorf("%v: %q, want %q", is, got, want)
		}
	}
}
