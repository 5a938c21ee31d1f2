package operator

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/lanestore"
	migrations "github.com/outbox-relay/relay/sql"
)

var configured = []relay.Lane{{Name: "outbox", Table: "outbox"}}

// outbox makes a database with an empty outbox and returns connections to it.
func outbox(t *testing.T, connections int) []*pgx.Conn {
	t.Helper()
	databaseURL := testpg.Database(t, migrations.List())
	var conns []*pgx.Conn
	for range connections {
		conns = append(conns, testpg.Connect(t, databaseURL))
	}
	return conns
}

func insert(t *testing.T, conn *pgx.Conn, rows int) {
	t.Helper()
	execute(t, conn, fmt.Sprintf(`INSERT INTO outbox (aggregate_type, aggregate_id, type)
		SELECT 'order', '1', 'x' FROM generate_series(1, %d)`, rows))
}

// one reads the state of the only lane.
func one(t *testing.T, conn *pgx.Conn) Lane {
	t.Helper()
	lanes, err := Lanes(t.Context(), conn, configured)
	if err != nil {
		t.Fatal(err)
	}
	if len(lanes) != 1 {
		t.Fatalf("got %d lanes", len(lanes))
	}
	return lanes[0]
}

func wantRows(t *testing.T, conn *pgx.Conn, want int64, when string) {
	t.Helper()
	if got := one(t, conn).RowsBehind; got == nil || *got != want {
		t.Errorf("%s: rows behind are %d, want %d", when, *got, want)
	}
}

func TestALaneThatNoRelayHasRunIsNewAndAllRowsAreBehind(t *testing.T) {
	conn := outbox(t, 1)[0]
	lane := one(t, conn)
	if lane.State != "new" || lane.Owner != nil || lane.OwnerAlive || *lane.RowsBehind != 0 || *lane.SecondsBehind != 0 {
		t.Errorf("got %+v", lane)
	}
	insert(t, conn, 3)
	wantRows(t, conn, 3, "without a row of the lane")
	execute(t, conn, "INSERT INTO relay_lanes (lane) VALUES ('outbox')")
	wantRows(t, conn, 3, "with a row that has no progress")
}

func TestRowsBehindAreThoseThatTheSnapshotDoesNotShow(t *testing.T) {
	conns := outbox(t, 2)
	conn, other := conns[0], conns[1]
	insert(t, conn, 5)
	// A transaction that is open when the snapshot is taken, and commits later.
	execute(t, other, "BEGIN")
	insert(t, other, 2)
	insert(t, conn, 1)
	execute(t, conn, "INSERT INTO relay_lanes (lane, snapshot_from) VALUES ('outbox', pg_current_snapshot())")
	wantRows(t, conn, 0, "all committed rows are published")
	insert(t, conn, 4)
	wantRows(t, conn, 4, "with four new ones")
	execute(t, other, "COMMIT")
	wantRows(t, conn, 6, "with those of the transaction that was open")
}

func TestRowsOfAnOpenWindowThatArePublishedAreNotBehind(t *testing.T) {
	conns := outbox(t, 2)
	conn, other := conns[0], conns[1]
	execute(t, conn, "INSERT INTO relay_lanes (lane, snapshot_from) VALUES ('outbox', pg_current_snapshot())")
	execute(t, other, "BEGIN")
	insert(t, other, 1) // has the least id, and is not in the window
	insert(t, conn, 10) // ids 2 to 11: the window
	execute(t, conn, "UPDATE relay_lanes SET snapshot_to = pg_current_snapshot()")
	wantRows(t, conn, 10, "nothing of the window is published")
	execute(t, conn, "UPDATE relay_lanes SET last_id = 7")
	wantRows(t, conn, 4, "ids 2 to 7 are published")
	execute(t, other, "COMMIT")
	wantRows(t, conn, 5, "a late row with a lesser id counts")
	insert(t, conn, 3)
	wantRows(t, conn, 8, "rows after the window count")
}

func TestSecondsBehindAreTheAgeOfTheOldestRowBehind(t *testing.T) {
	conn := outbox(t, 1)[0]
	execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at)
		VALUES ('order', '1', 'x', now() - interval '90 s'), ('order', '1', 'x', now() - interval '10 s')`)
	if got := *one(t, conn).SecondsBehind; got < 90 || got > 150 {
		t.Errorf("seconds behind are %v, want 90 and a little", got)
	}
	execute(t, conn, "INSERT INTO relay_lanes (lane, snapshot_from) VALUES ('outbox', pg_current_snapshot())")
	execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, created_at)
		VALUES ('order', '1', 'x', now() + interval '1 h')`)
	if got := *one(t, conn).SecondsBehind; got != 0 {
		t.Errorf("a row from a clock that is ahead is %v seconds behind, want 0", got)
	}
}

// owned makes the session of a connection the owner of a lane, as its row has it.
const owned = `UPDATE relay_lanes SET owner_pid = pg_backend_pid(), owner_started = (SELECT backend_start FROM pg_stat_activity
WHERE pid = pg_backend_pid()) WHERE lane = '%s'`

func TestTheOwnerIsAliveWhileItsSessionLives(t *testing.T) {
	conns := outbox(t, 2)
	conn, owner := conns[0], conns[1]
	lock := "pg_advisory_lock(" + lanestore.LockKey("'outbox'") + ")"
	execute(t, conn, "INSERT INTO relay_lanes (lane, owner, owner_epoch, seq, state) VALUES ('outbox', 'h/1/a', 2, 7, 'running')")
	execute(t, owner, "SELECT "+lock)
	if lane := one(t, conn); lane.OwnerAlive || lane.LockStranger == nil || !strings.Contains(*lane.LockStranger, "role postgres") {
		t.Errorf("a lock that no relay holds: %+v", lane)
	}
	execute(t, owner, fmt.Sprintf(owned, "outbox"))
	lane := one(t, conn)
	if !lane.OwnerAlive || lane.LockStranger != nil || *lane.Owner != "h/1/a" || lane.OwnerEpoch != 2 || lane.Seq != 7 || lane.State != "running" {
		t.Errorf("got %+v", lane)
	}
	execute(t, owner, "SELECT pg_advisory_unlock_all()")
	// Locks on other keys, and one on the same number in two halves, which is another kind of key.
	execute(t, owner, "SELECT pg_advisory_lock("+lanestore.LockKey("'other'")+")")
	execute(t, owner, `SELECT pg_advisory_lock((key >> 32)::int, ((key << 32) >> 32)::int)
		FROM `+lanestore.LockKey("'outbox'")+` AS key`)
	if lane := one(t, conn); !lane.OwnerAlive || lane.LockStranger != nil {
		t.Errorf("an owner that runs the lane without its lock: %+v", lane)
	}
	execute(t, conn, "UPDATE relay_lanes SET owner_started = owner_started - interval '1 s'")
	if one(t, conn).OwnerAlive {
		t.Error("another session with the same number counts as the owner")
	}
}

func TestKeysOfEverySignAreFoundAmongTheLocks(t *testing.T) {
	conns := outbox(t, 2)
	for i := range 20 {
		name := fmt.Sprintf("lane-%d", i)
		execute(t, conns[1], "INSERT INTO relay_lanes (lane) VALUES ('"+name+"')")
		execute(t, conns[1], "SELECT pg_advisory_lock("+lanestore.LockKey("'"+name+"'")+")")
		lanes, err := Lanes(t.Context(), conns[0], []relay.Lane{{Name: name, Table: "outbox"}})
		if err != nil || lanes[0].LockStranger == nil {
			t.Errorf("%s: got %+v with %v", name, lanes, err)
		}
	}
}

func TestALaneThatTheConfigurationDoesNotNameIsShownWithoutRows(t *testing.T) {
	conn := outbox(t, 1)[0]
	execute(t, conn, "INSERT INTO relay_lanes (lane, state, reason) VALUES ('billing', 'halted', 'a restored database')")
	lanes, err := Lanes(t.Context(), conn, configured)
	if err != nil || len(lanes) != 2 {
		t.Fatalf("got %+v with %v", lanes, err)
	}
	got := lanes[1]
	if got.Lane != "billing" || got.Table != nil || got.RowsBehind != nil || got.SecondsBehind != nil ||
		got.State != "halted" || *got.Reason != "a restored database" {
		t.Errorf("got %+v", got)
	}
}

func TestWhatIsParkedIsCountedByLane(t *testing.T) {
	conn := outbox(t, 1)[0]
	execute(t, conn, "INSERT INTO relay_lanes (lane, state, reason) VALUES ('outbox', 'running', 'topic late is unavailable'), ('billing', 'new', NULL)")
	if lane := named(t, conn, "outbox"); lane.ParkedAggregates != 0 || lane.ParkedRows != 0 || lane.ParkedSince != nil {
		t.Errorf("with nothing parked: %+v", lane)
	}
	execute(t, conn, `
INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, created_at, seq, cause, parked_at, released_seq)
SELECT lane, id, gen_random_uuid(), 'order', key, 'T', now(), 1, 'refused', now() - make_interval(secs => age), released
  FROM (VALUES ('outbox', 1, 'a', 60, NULL), ('outbox', 2, 'a', 30, NULL), ('outbox', 3, 'b', 90, NULL), ('outbox', 4, 'c', 300, 7),
               ('billing', 5, 'a', 10, NULL)) AS r (lane, id, key, age, released)`)
	lane := named(t, conn, "outbox")
	if lane.ParkedAggregates != 2 || lane.ParkedRows != 3 || lane.ParkedSince == nil ||
		time.Since(*lane.ParkedSince) < 90*time.Second || time.Since(*lane.ParkedSince) > 200*time.Second {
		t.Errorf("got %+v", lane)
	}
	if lane.State != "running" || *lane.Reason != "topic late is unavailable" {
		t.Errorf("a running lane says %v", lane.Reason)
	}
	if lane := named(t, conn, "billing"); lane.ParkedAggregates != 1 || lane.ParkedRows != 1 {
		t.Errorf("got %+v", lane)
	}
}

// named reads the state of the named lane.
func named(t *testing.T, conn *pgx.Conn, name string) Lane {
	t.Helper()
	lanes, err := Lanes(t.Context(), conn, configured)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lanes {
		if l.Lane == name {
			return l
		}
	}
	t.Fatalf("no lane %s in %+v", name, lanes)
	return Lane{}
}

func TestMissingTablesOfTheRelayAreExplained(t *testing.T) {
	conn := outbox(t, 1)[0]
	if _, err := Lanes(t.Context(), conn, []relay.Lane{{Name: "x", Table: "billing.events"}}); len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
	execute(t, conn, "DROP TABLE relay_lanes")
	if _, err := Lanes(t.Context(), conn, configured); len(hint.Of(err)) != 1 {
		t.Errorf("got %v with hints %q", err, hint.Of(err))
	}
}

func TestTheRoleOfTheRelayMayReadTheStatus(t *testing.T) {
	conn := outbox(t, 1)[0]
	roles, err := os.ReadFile("../../sql/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, conn, string(roles))
	insert(t, conn, 1)
	execute(t, conn, "SET ROLE relay")
	wantRows(t, conn, 1, "as the role relay")
}

func TestRowsOfOldTransactionsAreLeftOutThroughTheIndex(t *testing.T) {
	conn := outbox(t, 1)[0]
	insert(t, conn, 20_000)
	execute(t, conn, "INSERT INTO relay_lanes (lane, snapshot_from) VALUES ('outbox', pg_current_snapshot())")
	execute(t, conn, "ANALYZE outbox")
	var plan []struct {
		Plan node
	}
	query := "EXPLAIN (FORMAT json, ANALYZE) " + fmt.Sprintf(behindQuery, `"outbox"`)
	if err := conn.QueryRow(t.Context(), query, "outbox").Scan(&plan); err != nil {
		t.Fatal(err)
	}
	indexed := false
	plan[0].Plan.walk(func(n node) {
		if n.Type == "Seq Scan" && n.Relation == "outbox" && n.Loops > 0 {
			t.Error("the whole outbox is scanned")
		}
		indexed = indexed || n.Index == "outbox_xact_id_idx" && n.Loops > 0
	})
	if !indexed {
		t.Error("the index on xact_id is not used")
	}
}

type node struct {
	Type     string  `json:"Node Type"`
	Relation string  `json:"Relation Name"`
	Index    string  `json:"Index Name"`
	Loops    float64 `json:"Actual Loops"`
	Plans    []node
}

func (n node) walk(visit func(node)) {
	visit(n)
	for _, below := range n.Plans {
		below.walk(visit)
	}
}

// Order, visibility and retention rest on the defaults of three columns. Who else may write them is
// told, whatever the right comes through.
func TestRolesThatMayWriteTheColumnsThatOrderRestsOnAreTold(t *testing.T) {
	conn := outbox(t, 1)[0]
	roles, err := os.ReadFile("../../sql/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	execute(t, conn, string(roles))
	createRole(t, conn, "writers_plain", "IN ROLE outbox_writer")
	createRole(t, conn, "writers_group", "")
	createRole(t, conn, "writers_member", "IN ROLE writers_group")
	createRole(t, conn, "writers_boss", "SUPERUSER")
	for _, step := range []struct {
		statement string
		want      []string // in a warning each
	}{
		{`SELECT`, nil},
		{`GRANT INSERT ON outbox TO writers_group`, []string{"writers_group (created_at, id, xact_id), writers_member (created_at, id, xact_id);"}},
		{`REVOKE INSERT ON outbox FROM writers_group; GRANT UPDATE (created_at) ON outbox TO writers_plain`, []string{": writers_plain (created_at);"}},
		{`GRANT INSERT (id) ON outbox TO PUBLIC`, []string{": PUBLIC (id);"}},
		{`REVOKE INSERT (id) ON outbox FROM PUBLIC; REVOKE UPDATE (created_at) ON outbox FROM writers_plain`, nil},
		{`ALTER TABLE outbox DISABLE TRIGGER ALL; ALTER TABLE outbox ALTER COLUMN id SET GENERATED BY DEFAULT`,
			[]string{"outbox_own_transaction", "GENERATED ALWAYS"}},
		{`ALTER TABLE outbox ENABLE TRIGGER ALL`, []string{"outbox_own_transaction", "GENERATED ALWAYS"}}, // replication would not fire it
		{`ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_own_transaction; ALTER TABLE outbox ALTER COLUMN id SET GENERATED ALWAYS;
ALTER DOMAIN outbox_xact_id DROP CONSTRAINT outbox_xact_id_must_be_of_this_transaction`, []string{"check of the column's type"}},
	} {
		execute(t, conn, step.statement)
		got := one(t, conn).Warnings
		if len(got) != len(step.want) {
			t.Errorf("after %s: %q", step.statement, got)
			continue
		}
		for i, want := range step.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("after %s: %q, want %q in it", step.statement, got[i], want)
			}
		}
	}
}
