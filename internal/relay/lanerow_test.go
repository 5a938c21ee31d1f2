package relay

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/position"
)

// laneOwner opens the lane's row for a process of the given name.
func laneOwner(t testing.TB, url, name string) *laneRow {
	t.Helper()
	cfg := Config{DatabaseURL: url, Brokers: []string{"unused:1"}, Name: "test"}.WithDefaults()
	row, err := openLaneRow(t.Context(), &cfg, cfg.Lanes[0], name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(row.close)
	return row
}

// registered gives the lane its row.
func registered(t testing.TB, row *laneRow) {
	t.Helper()
	if _, err := row.register(t.Context(), []Lane{row.lane}); err != nil {
		t.Fatal(err)
	}
}

func announce(t testing.TB, row *laneRow) checkpoint.ClusterIdentity {
	t.Helper()
	lineage, err := row.announce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lineage
}

func claim(t testing.TB, row *laneRow, seq int64) {
	t.Helper()
	lineage := announce(t, row)
	if err := row.claim(t.Context(), checkpoint.Record{Seq: seq, Position: position.Position{From: position.Beginning}}, lineage); err != nil {
		t.Fatal(err)
	}
}

func TestLaneRowLivesThroughATakeover(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	row := laneOwner(t, url, "host/1/a")
	lineage := announce(t, row)
	conn := open(t, url)
	if want := query[string](t, conn, `SELECT system_identifier::text FROM pg_control_system()`); lineage.SystemIdentifier != want {
		t.Errorf("system identifier %s, want %s", lineage.SystemIdentifier, want)
	}
	if lineage.Timeline != 1 || lineage.DatabaseOID == 0 || lineage.Database != query[string](t, conn, `SELECT current_database()`) {
		t.Errorf("lineage %+v", lineage)
	}
	state, err := row.read(t.Context())
	if err != nil || state != (laneState{}) {
		t.Fatalf("a new lane reads %+v, %v", state, err)
	}
	if err := row.claim(t.Context(), checkpoint.Record{Position: position.Position{From: position.Beginning}}, lineage); err != nil {
		t.Fatal(err)
	}
	window := position.Position{From: position.Beginning, To: position.Snapshot{Xmin: 5, Xmax: 9, Xip: []uint64{5, 7}}, LastID: 42}
	for seq, after := range []position.Position{window, window.Closed()} {
		if err := row.intent(t.Context(), int64(seq+1), &plan{after: after}, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := row.say(t.Context(), Waiting, "a topic is missing"); err != nil {
		t.Fatal(err)
	}
	if state, err = row.read(t.Context()); err != nil || state.Seq != 2 || !state.Started || !reflect.DeepEqual(*state.Identity, lineage) {
		t.Errorf("the row reads %+v, %v", state, err)
	}
	said := query[string](t, conn, `SELECT concat_ws('|', seq, owner, snapshot_from, snapshot_to, last_id, state, reason) FROM relay_lanes`)
	if want := "2|host/1/a|5:9:5,7|waiting|a topic is missing"; said != want {
		t.Errorf("the row says %q, want %q", said, want)
	}
}

func TestIntentsCountUpByOne(t *testing.T) {
	row := laneOwner(t, newDatabase(t), "a")
	claim(t, row, 7)
	for _, seq := range []int64{7, 9, 6, 0} {
		if err := row.intent(t.Context(), seq, &plan{after: position.Position{From: position.Beginning}}, false); !errors.Is(err, errLost) {
			t.Errorf("intent %d after 7: %v", seq, err)
		}
	}
	if err := row.intent(t.Context(), 8, &plan{after: position.Position{From: position.Beginning}}, false); err != nil {
		t.Errorf("intent 8 after 7: %v", err)
	}
}

func TestAClaimWithdrawsAnIntentThatWasNotCommitted(t *testing.T) {
	url := newDatabase(t)
	first, second := laneOwner(t, url, "first"), laneOwner(t, url, "second")
	claim(t, first, 3)
	if err := first.intent(t.Context(), 4, &plan{after: position.Position{From: position.Beginning}}, false); err != nil {
		t.Fatal(err)
	}
	claim(t, second, 3)
	if err := second.intent(t.Context(), 4, &plan{after: position.Position{From: position.Beginning}}, false); err != nil {
		t.Errorf("the batch cannot be done again: %v", err)
	}
}

// Everything that a stale owner could still write fails, from the moment another has announced itself.
func TestAStaleOwnerWritesNothing(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	stale, next := laneOwner(t, url, "stale"), laneOwner(t, url, "next")
	claim(t, stale, 3)
	announce(t, next)
	lineage := checkpoint.ClusterIdentity{Identity: pg.Identity{SystemIdentifier: "1"}}
	for what, err := range map[string]error{
		"intent": stale.intent(t.Context(), 4, &plan{after: position.Position{From: position.Beginning}}, false),
		"claim":  stale.claim(t.Context(), checkpoint.Record{Seq: 9, Position: position.Position{From: position.Beginning}}, lineage),
		"say":    stale.say(t.Context(), Halted, "no"),
	} {
		if !errors.Is(err, errLost) {
			t.Errorf("%s of a stale owner: %v", what, err)
		}
	}
	if _, err := stale.read(t.Context()); !errors.Is(err, errLost) {
		t.Errorf("read of a stale owner: %v", err)
	}
	state, err := next.read(t.Context())
	if err != nil || state.Seq != 3 {
		t.Errorf("the next owner reads %+v, %v", state, err)
	}
	if owner := query[string](t, open(t, url), `SELECT owner || ' ' || state FROM relay_lanes`); owner != "next running" {
		t.Errorf("the row says %q", owner)
	}
}

func TestOfManyThatAnnounceOneIsLeft(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	rows := make([]*laneRow, 8)
	for i := range rows {
		rows[i] = laneOwner(t, url, fmt.Sprint(i))
	}
	var group sync.WaitGroup
	errs := make([]error, len(rows))
	for i, row := range rows {
		group.Go(func() {
			var lineage checkpoint.ClusterIdentity
			if lineage, errs[i] = row.announce(t.Context()); errs[i] == nil {
				errs[i] = row.claim(t.Context(), checkpoint.Record{Position: position.Position{From: position.Beginning}}, lineage)
			}
		})
	}
	group.Wait()
	epochs := make(map[int64]bool)
	for i, row := range rows {
		if errs[i] != nil && !errors.Is(errs[i], errLost) {
			t.Fatal(errs[i])
		}
		epochs[row.epoch] = true
	}
	if len(epochs) != len(rows) {
		t.Errorf("%d owners share %d epochs", len(rows), len(epochs))
	}
	for i, row := range rows {
		err := row.intent(t.Context(), 1, &plan{after: position.Position{From: position.Beginning}}, false)
		if last := row.epoch == int64(len(rows)); last != (err == nil) || last != (errs[i] == nil && err == nil) {
			t.Errorf("owner with epoch %d of %d: claim %v, intent %v", row.epoch, len(rows), errs[i], err)
		}
	}
}

// A transaction that stays open anywhere on the server keeps every version of the row that an intent leaves behind.
func TestAnIntentCostsTheSameUnderAnOldSnapshot(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	row, old := laneOwner(t, url, "a"), open(t, url)
	claim(t, row, 0)
	exec(t, old, `BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM relay_lanes`)
	at := position.Position{From: position.Beginning}
	const intents = 5000
	for seq := range int64(intents) {
		if err := row.intent(t.Context(), seq+1, &plan{after: at}, false); err != nil {
			t.Fatal(err)
		}
	}
	name := query[string](t, row.conn, `SELECT name FROM pg_prepared_statements WHERE statement LIKE $1`, "%CASE WHEN $8%")
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
		row.location = query[string](t, row.conn, `SELECT ctid::text FROM relay_lanes`)
	}
	if mean := float64(total) / measured; mean > 20 {
		t.Errorf("an intent touches %.1f buffers after %d others", mean, intents)
	} else {
		t.Logf("an intent touches %.1f buffers after %d others", mean, intents)
	}
}

func TestTheLockShowsItsHolder(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	holder, other := laneOwner(t, url, "holder"), laneOwner(t, url, "other")
	registered(t, holder)
	if h, err := other.holder(t.Context()); h != (holding{}) || err != nil {
		t.Fatalf("a free lock: %+v, %v", h, err)
	}
	// Neither another lane nor another advisory lock is taken for this one.
	exec(t, open(t, url), `SELECT pg_advisory_lock(1), pg_advisory_lock(1, 2), pg_advisory_lock(hashtextextended('relay lane other', 0))`)
	if ok, err := holder.tryLock(t.Context()); !ok || err != nil {
		t.Fatalf("a free lock is refused: %v", err)
	}
	if ok, err := other.tryLock(t.Context()); ok || err != nil {
		t.Fatalf("the lock is held twice: %v", err)
	}
	h, err := other.holder(t.Context())
	if err != nil || h.owner != int32(holder.conn.PgConn().PID()) || h.silent < 0 || h.silent > time.Minute || !h.taken || h.stranger != "" {
		t.Fatalf("%+v, %v", h, err)
	}
	if err := holder.ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.evict(t.Context(), h.owner); err != nil {
		t.Fatal(err)
	}
	if err := holder.ping(t.Context()); err == nil {
		t.Error("an evicted owner's session lives")
	}
	deadline := time.Now().Add(patience)
	for {
		ok, err := other.tryLock(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the lock of an evicted owner is not free: %v", err)
		}
		if ok {
			return
		}
	}
}

func TestTheLockOfAnotherDatabaseIsAnother(t *testing.T) {
	one, two := laneOwner(t, newDatabase(t), "one"), laneOwner(t, newDatabase(t), "two")
	if ok, err := one.tryLock(t.Context()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if h, err := two.holder(t.Context()); h != (holding{}) || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if ok, err := two.tryLock(t.Context()); !ok || err != nil {
		t.Error("the same lane of another database is locked too", err)
	}
}
