package relay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
	migrations "github.com/outbox-relay/relay/sql"
)

// withTable is the rig's configuration with its lane on another table.
func (r *rig) withTable(table string) Config {
	cfg := r.config()
	cfg.Lanes = []Lane{{Name: "outbox", Table: table}}
	return cfg
}

// anotherOutbox makes a second table with n rows, which are older than everything that is published
// after.
func (r *rig) anotherOutbox(name string, n int) {
	r.t.Helper()
	exec(r.t, r.conn, fmt.Sprintf(`CREATE TABLE %[1]s (LIKE outbox INCLUDING ALL);
INSERT INTO %[1]s (aggregate_type, aggregate_id, type, payload)
SELECT 'order', 'other', 'Changed', convert_to('other ' || n, 'UTF8') FROM generate_series(1, %[2]d) n`, name, n))
}

// haltsFor takes the lane over in vain.
func (r *rig) haltsFor(cfg Config, cause checkpoint.Cause, says ...string) *checkpoint.HaltError {
	r.t.Helper()
	_, err := r.takeOver(cfg, "next")
	fault := (*checkpoint.HaltError)(nil)
	if !errors.As(err, &fault) || fault.Cause != cause {
		r.t.Fatalf("got %v, want a halt for %s", err, cause)
	}
	for _, part := range says {
		if !strings.Contains(fault.Error(), part) {
			r.t.Errorf("the halt does not say %q: %v", part, fault)
		}
	}
	return fault
}

// Rows of another table that the progress of the lane deems published would never be sent, and
// would be deleted as published.
func TestALaneThatIsPointedAtAnotherTableHalts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.anotherOutbox("outbox2", 4)
	want := r.insertOrders(3, "one")
	r.runOnce(r.config())
	unsent := r.insertOrders(2, "two")
	cfg := r.withTable("outbox2")
	cfg.Retention = RemoveAtOnce
	s := r.start(cfg)
	reason := s.awaitState(t, Halted)
	s.stop()
	for _, part := range []string{"public.outbox (oid ", "public.outbox2 (oid ", "2 rows", "relay recover outbox"} {
		if !strings.Contains(reason, part) {
			t.Errorf("the reason does not say %q: %s", part, reason)
		}
	}
	if got := query[string](t, r.conn, `SELECT state || ': ' || reason FROM relay_lanes`); got != "halted: "+reason {
		t.Errorf("the row says %s", got)
	}
	r.expect(orders, want)
	if n := query[int](t, r.conn, `SELECT count(*)::int FROM outbox2`); n != 4 {
		t.Errorf("%d rows are left of 4", n)
	}
	r.goesOn()
	r.expect(orders, merge(want, unsent, theEnd))
}

// A replica with the wrong table must neither fence the one that works, nor keep the lane from one
// that could go on.
func TestAReplicaWithAnotherTableDisturbsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.anotherOutbox("outbox2", 1)
	first := r.insertOrders(5, "one")
	s := r.start(r.config())
	s.awaitRows(t, 5)
	epoch := query[int64](t, r.conn, `SELECT owner_epoch FROM relay_lanes`)
	_ = r.haltsFor(r.withTable("outbox2"), checkpoint.AnotherTable, "public.outbox2")
	second := r.insertOrders(5, "two")
	s.awaitRows(t, 10)
	s.stop()
	if len(s.takeovers) != 1 || query[int64](t, r.conn, `SELECT owner_epoch FROM relay_lanes`) != epoch {
		t.Errorf("the lane was taken over %d times", len(s.takeovers))
	}
	wrong := r.start(r.withTable("outbox2"))
	wrong.awaitState(t, Halted)
	right := r.start(r.config())
	r.insertEnd()
	right.awaitRows(t, 1)
	if state := query[string](t, r.conn, `SELECT state FROM relay_lanes`); state != "running" {
		t.Errorf("the row says %s", state)
	}
	right.stop()
	wrong.stop()
	r.expect(orders, merge(first, second, theEnd))
}

// What keeps the identity of the table needs no choice: a rename that the setting follows, a move
// to another schema, and all that writes the table again.
func TestATableThatIsRenamedOrRewrittenGoesOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	for _, change := range []string{
		`VACUUM FULL outbox`,
		`ALTER TABLE outbox ALTER COLUMN type TYPE varchar(300), ADD COLUMN note uuid DEFAULT gen_random_uuid()`,
		`ALTER TABLE outbox SET LOGGED; CREATE SCHEMA elsewhere; ALTER TABLE outbox SET SCHEMA elsewhere; ALTER TABLE elsewhere.outbox RENAME TO events`,
	} {
		exec(t, r.conn, change)
	}
	exec(t, r.conn, `INSERT INTO elsewhere.events (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'end', 'T', 'end')`)
	s := r.start(r.withTable("elsewhere.events"))
	s.awaitRows(t, 1)
	s.stop()
	r.expect(orders, merge(want, theEnd))
	if got := query[string](t, r.conn, `SELECT table_name FROM relay_bindings`); got != "elsewhere.events" {
		t.Errorf("the row names the table %s", got)
	}
}

// The table is swapped under a relay that runs. Its reads and its retention must not touch the new
// one.
func TestATableThatIsSwappedUnderARunningRelayHalts(t *testing.T) {
	t.Parallel()
	for name, swap := range map[string]string{
		"renamed and recreated": `ALTER TABLE outbox RENAME TO outbox_old; ALTER TABLE outbox2 RENAME TO outbox`,
		"dropped and recreated": `DROP TABLE outbox; ALTER TABLE outbox2 RENAME TO outbox`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.anotherOutbox("outbox2", 7)
			want := r.insertOrders(3, "v")
			cfg := r.config()
			cfg.Retention = RemoveAtOnce
			s := r.start(cfg)
			s.awaitRows(t, 3)
			exec(t, r.conn, `BEGIN; `+swap+`; INSERT INTO outbox (aggregate_type, aggregate_id, type, payload)
				VALUES ('order', 'new', 'Changed', 'new'); COMMIT`)
			s.await(t, "the lane halts", func(s *recorder) bool { return s.state().State == Halted })
			s.stop()
			r.expect(orders, want)
			if n := query[int](t, r.conn, `SELECT count(*)::int FROM outbox`); n != 8 {
				t.Errorf("%d rows of the new table are left of 8", n)
			}
		})
	}
}

// The change of layout makes a new table and takes the lane along, in both directions and under a
// relay that runs.
func TestTheChangeOfLayoutTakesTheLaneAlong(t *testing.T) {
	t.Parallel()
	for _, empty := range []bool{false, true} {
		t.Run(fmt.Sprintf("empty %t", empty), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			want := r.insertOrders(3, "one")
			s := r.start(r.config())
			s.awaitRows(t, 3)
			if empty {
				exec(t, r.conn, `DELETE FROM outbox`)
			}
			rows := 3
			for i, step := range slices.Concat(ups(), downs()) {
				exec(t, r.conn, step)
				more := r.insertOrders(2, fmt.Sprint("step ", i))
				rows += 2
				s.awaitRows(t, rows)
				want = merge(want, more)
			}
			s.stop()
			s.mu.Lock()
			halted := slices.ContainsFunc(s.states, func(l LaneStatus) bool { return l.State == Halted })
			s.mu.Unlock()
			if halted {
				t.Errorf("the lane halted: %+v", s.states)
			}
			r.expect(orders, want)
			if bound, is := query[uint32](t, r.conn, `SELECT table_oid FROM relay_bindings`), query[uint32](t, r.conn, `SELECT 'outbox'::regclass::oid`); bound != is {
				t.Errorf("the lane is bound to %d, and the table is %d", bound, is)
			}
		})
	}
}

func ups() (texts []string) {
	for _, step := range migrations.Partitioned() {
		texts = append(texts, step.Up)
	}
	return texts
}

func downs() (texts []string) {
	for _, step := range slices.Backward(migrations.Partitioned()) {
		texts = append(texts, step.Down)
	}
	return texts
}

// The choices for another table, and what each does with the rows of the new one.
func TestRecoverToAnotherTable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		decision recovery.Decision
		isNew    int64
		skipped  int64
		sent     []string
	}{
		{recovery.Decision{Choice: recovery.ChooseRestartFrom, From: "beginning"}, 4, 0, []string{"other 1", "other 2", "other 3", "other 4"}},
		{recovery.Decision{Choice: recovery.ChooseSkipToNow}, 0, 4, nil},
		{recovery.Decision{Choice: recovery.ChooseKafka}, 1, 3, []string{"other 4"}},
	} {
		t.Run(string(c.decision.Choice), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.anotherOutbox("outbox2", 3)
			want := r.insertOrders(3, "one")
			r.runOnce(r.config())
			exec(t, r.conn, `INSERT INTO outbox2 (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'other', 'Changed', 'other 4')`)
			command := r.recovery(r.withTable("outbox2"))
			f, err := command.Inspect(t.Context(), recovery.Look{})
			if err != nil || f.Cause != checkpoint.AnotherTable {
				t.Fatalf("found %+v, %v", f, err)
			}
			if !slices.ContainsFunc(f.Closed, func(o recovery.ClosedOption) bool { return o.Choice == recovery.ChoosePostgres }) {
				t.Errorf("closed: %+v", f.Closed)
			}
			if f.Keep(c.decision.Choice); len(f.Choices) != 1 {
				t.Fatalf("open: %+v", f.Choices)
			}
			option := f.Choices[0]
			if option.New.Count != c.isNew || option.Again.Count != 0 || option.Skipped.Count != c.skipped {
				t.Errorf("%+v; want %d new, none again and %d skipped", option, c.isNew, c.skipped)
			}
			if c.decision.Choice == recovery.ChooseKafka && option.Caution == "" {
				t.Error("the same place in another table is offered without a caution")
			}
			if _, err := command.Apply(t.Context(), c.decision); err != nil {
				t.Fatal(err)
			}
			exec(t, r.conn, `INSERT INTO outbox2 (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'end', 'T', 'end')`)
			s := r.start(r.withTable("outbox2"))
			s.awaitRows(t, len(c.sent)+1)
			s.stop()
			if c.sent != nil {
				want["other"] = c.sent
			}
			r.expect(orders, merge(want, theEnd))
			_ = r.haltsFor(r.config(), checkpoint.AnotherTable, "public.outbox2 (oid ")
		})
	}
}

// One table has one lane: a lane that is named again would publish everything again.
func TestATableBelongsToOneLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(3, "v")
	r.runOnce(r.config())
	cfg := r.config()
	cfg.Lanes = []Lane{{Name: "orders", Table: "public.outbox"}}
	s := r.start(cfg)
	if reason := s.awaitState(t, Halted); !strings.Contains(reason, "lane outbox") || !strings.Contains(reason, "public.outbox") {
		t.Errorf("the reason is %s", reason)
	}
	s.stop()
	r.expect(orders, want)
	// Two that begin at once: the row of one takes the table.
	both := newRig(t)
	cfg = both.config()
	cfg.Lanes = []Lane{{Name: "a", Table: "outbox"}, {Name: "b", Table: "public.outbox"}}
	want = both.insertOrders(3, "v")
	s = both.start(cfg)
	s.await(t, "one lane publishes and the other halts", func(s *recorder) bool {
		return s.rows >= 3 && slices.ContainsFunc(s.states, func(l LaneStatus) bool { return l.State == Halted })
	})
	s.stop()
	both.expect(orders, want)
}

// What is no table has no identity that a lane could keep: a view may show another table tomorrow,
// and a partition is published with its parent.
func TestALaneTakesTablesOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, text := range ups() {
		exec(t, r.conn, text)
	}
	exec(t, r.conn, `CREATE VIEW shown AS SELECT * FROM outbox`)
	for table, says := range map[string]string{"shown": "is no table", "outbox_overflow": "is a partition"} {
		_ = r.haltsFor(r.withTable(table), "", says)
	}
	if _, err := r.takeOver(r.withTable("missing"), "next"); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing table: %v", err)
	}
}

// A lane that knows no table yet, or whose row has lost it, uses that of the checkpoint.
func TestTheCheckpointKnowsTheTableToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.anotherOutbox("outbox2", 2)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	exec(t, r.conn, `DELETE FROM relay_bindings`)
	epoch := query[int64](t, r.conn, `SELECT owner_epoch FROM relay_lanes`)
	_ = r.haltsFor(r.withTable("outbox2"), checkpoint.AnotherTable, "public.outbox (oid ")
	r.goesOn()
	if got := query[int64](t, r.conn, `SELECT count(*) FROM relay_bindings WHERE table_oid = 'outbox'::regclass`); got != 1 {
		t.Errorf("the table is not recorded after epoch %d", epoch)
	}
}

// Two schemas of one database are two deployments, and the default name is that of the database.
// The second must not fence the first.
func TestAnotherSchemaUnderTheSameNameDoesNotDisturbTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	second := open(t, r.url)
	exec(t, second, `CREATE SCHEMA second; SET search_path = second`)
	for _, migration := range migrations.List() {
		exec(t, second, migration.Up)
	}
	insert(t, second, "x", "of another deployment")
	want := r.insertOrders(5, "one")
	s := r.start(r.config())
	s.awaitRows(t, 5)
	cfg := r.config()
	parsed, err := pgx.ParseConfig(r.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DatabaseURL = fmt.Sprintf("postgres://%s:%s@%s:%d/%s?search_path=second", parsed.User, parsed.Password, parsed.Host, parsed.Port, parsed.Database)
	_ = r.haltsFor(cfg, checkpoint.AnotherDeployment, "setting name", "schema public", "schema second")
	more := r.insertOrders(5, "two")
	s.awaitRows(t, 10)
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("the lane was taken over %d times", len(s.takeovers))
	}
	r.expect(orders, merge(want, more))
	// A schema that is given another name is the same one.
	exec(t, r.conn, `ALTER SCHEMA public RENAME TO first; ALTER DATABASE `+pgx.Identifier{parsed.Database}.Sanitize()+` SET search_path = first`)
	cfg = r.config()
	next := r.start(cfg)
	exec(t, r.conn, `SET search_path = first`)
	r.insertEnd()
	next.awaitRows(t, 1)
	next.stop()
}
