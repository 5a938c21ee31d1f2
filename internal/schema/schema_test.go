package schema

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/hint"
)

func TestMain(m *testing.M) { testpg.Main(m, testpg.Options{}) }

// emptyDatabase makes an empty database and returns its URL and a connection to it.
func emptyDatabase(t *testing.T) (string, *pgx.Conn) {
	t.Helper()
	databaseURL := testpg.Database(t)
	return databaseURL, testpg.Connect(t, databaseURL)
}

func open(t *testing.T, databaseURL string) *Migrator {
	t.Helper()
	m, err := Open(t.Context(), databaseURL, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func execute(t *testing.T, conn *pgx.Conn, query string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// relations lists what is in the schema public.
func relations(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	var names string
	err := conn.QueryRow(t.Context(), `SELECT coalesce(string_agg(name, ' ' ORDER BY name), '') FROM (
		SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
		UNION ALL SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace) objects (name)`).Scan(&names)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// record returns a callback and the list that it fills.
func record() (func(Migration), *[]string) {
	var done []string
	return func(m Migration) { done = append(done, m.String()) }, &done
}

func names(all []Migration) []string {
	var list []string
	for _, m := range all {
		list = append(list, m.String())
	}
	return list
}

func TestUpAppliesWhatIsMissingAndDownTakesItOut(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	all := names(Migrations())

	done, applied := record()
	if err := m.Up(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(*applied, all) {
		t.Errorf("applied %q, want %q", *applied, all)
	}
	done, applied = record()
	if err := m.Up(t.Context(), done); err != nil || len(*applied) != 0 {
		t.Errorf("the second time applied %q with %v", *applied, err)
	}

	done, removed := record()
	if err := m.Down(t.Context(), 1, false, done); err != nil {
		t.Fatal(err)
	}
	if want := all[len(all)-1:]; !slices.Equal(*removed, want) {
		t.Errorf("removed %q, want %q", *removed, want)
	}
	status, err := m.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range status {
		if want := i < len(all)-1; s.Applied != want {
			t.Errorf("%s: applied is %v, want %v", s, s.Applied, want)
		}
	}
	if err := m.Down(t.Context(), -1, false, done); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(all)
	if !slices.Equal(*removed, all) {
		t.Errorf("removed %q, want %q", *removed, all)
	}
	if got, want := relations(t, conn), "relay_schema_migrations relay_schema_migrations_pkey"; got != want {
		t.Errorf("left in the schema: %s, want %s", got, want)
	}
}

func TestPlansAndStatusChangeNothing(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	up, err := m.PlanUp(t.Context())
	if err != nil || len(up) != len(Migrations()) {
		t.Errorf("got the plan %q with %v", names(up), err)
	}
	down, err := m.PlanDown(t.Context(), -1)
	if err != nil || len(down) != 0 {
		t.Errorf("got the plan %q with %v", names(down), err)
	}
	if _, err := m.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if got := relations(t, conn); got != "" {
		t.Errorf("made %s", got)
	}
}

func TestSeveralMigratorsAtOnceApplyEachMigrationOnce(t *testing.T) {
	databaseURL, _ := emptyDatabase(t)
	const migrators = 4
	var applied atomic.Int32
	errs := make(chan error, migrators)
	for range migrators {
		m := open(t, databaseURL)
		go func() { errs <- m.Up(t.Context(), func(Migration) { applied.Add(1) }) }()
	}
	for range migrators {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got, want := int(applied.Load()), len(Migrations()); got != want {
		t.Errorf("applied %d migrations, want %d", got, want)
	}
}

func TestDownRefusesToDeleteRows(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	done, removed := record()
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) SELECT 'order', '1', 'x' FROM generate_series(1, 2)`)
	execute(t, conn, `INSERT INTO relay_lanes (lane) VALUES ('outbox')`)
	before := relations(t, conn)

	err := m.Down(t.Context(), -1, false, done)
	loss, ok := errors.AsType[*LossError](err)
	if !ok || !slices.Equal(loss.Tables, []string{"1 row of relay_lanes", "2 rows of outbox"}) {
		t.Fatalf("got %v", err)
	}
	if got := relations(t, conn); got != before || len(*removed) != 0 {
		t.Errorf("something was removed: %q, left %s", *removed, got)
	}
	if err := m.Down(t.Context(), -1, true, done); err != nil {
		t.Error(err)
	}
}

func TestARowThatArrivesAfterTheCheckIsNotDeleted(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	// The row arrives once the first migration is out, long after the check.
	err := m.Down(t.Context(), -1, false, func(out Migration) {
		if out.Version == 2 {
			execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "0001_outbox") || !strings.Contains(err.Error(), "holds rows") {
		t.Fatalf("got %v", err)
	}
	var rows int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&rows); err != nil || rows != 1 {
		t.Errorf("the outbox has %d rows (%v), want 1", rows, err)
	}
	if version, err := m.version(t.Context()); err != nil || version != 1 {
		t.Errorf("the schema is at %d with %v, want 1", version, err)
	}
}

func TestAMigrationThatPostgresRefusesLeavesNoTrace(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	execute(t, conn, "CREATE TABLE relay_lanes (someone text)")
	done, applied := record()
	err := m.Up(t.Context(), done)
	if err == nil || len(hint.Of(err)) == 0 || !strings.Contains(err.Error(), "0002_relay_lanes") {
		t.Fatalf("got %v with hints %q", err, hint.Of(err))
	}
	if strings.Contains(err.Error(), "CREATE TABLE") {
		t.Errorf("the error holds the whole migration: %v", err)
	}
	if len(*applied) != 1 {
		t.Errorf("applied %q, want the first alone", *applied)
	}
	execute(t, conn, "DROP TABLE relay_lanes")
	if err := m.Up(t.Context(), done); err != nil {
		t.Errorf("after the cause was removed: %v", err)
	}
}

func TestAMigrationCutShortIsExplained(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "UPDATE relay_schema_migrations SET dirty = true")
	_, statusErr := m.Status(t.Context())
	for name, err := range map[string]error{
		"up": m.Up(t.Context(), nil), "down": m.Down(t.Context(), 1, true, nil), "status": statusErr,
	} {
		if dirty, ok := errors.AsType[*DirtyError](err); !ok || dirty.Version != int64(Migrations()[len(Migrations())-1].Version) {
			t.Errorf("%s: got %v", name, err)
		}
		if hints := hint.Of(err); len(hints) != 1 || !strings.Contains(hints[0], "dirty = false") {
			t.Errorf("%s: got the hints %q", name, hints)
		}
	}
}

func TestASchemaOfANewerRelayIsLeftAlone(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "UPDATE relay_schema_migrations SET version = 9999")
	if err := m.Down(t.Context(), 1, true, nil); err == nil || !strings.Contains(err.Error(), "9999") {
		t.Errorf("got %v", err)
	}
}

func TestAMigrationDoesNotQueueForLongBehindAnOpenTransaction(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE relay_lanes IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	err = m.Down(t.Context(), -1, false, func(Migration) {})
	if err == nil || !strings.Contains(err.Error(), "another session holds a lock") || len(hint.Of(err)) != 1 {
		t.Errorf("got %v", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Down(t.Context(), -1, false, func(Migration) {}); err != nil {
		t.Errorf("after the transaction ended: %v", err)
	}
}

func TestTheSearchPathChoosesTheSchemaAndAMissingOneIsAnError(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	_, err := Open(t.Context(), databaseURL+"&search_path=billing", 10*time.Second)
	if err == nil || len(hint.Of(err)) != 1 {
		t.Fatalf("got %v", err)
	}
	execute(t, conn, "CREATE SCHEMA billing")
	m := open(t, databaseURL+"&search_path=billing")
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if got := relations(t, conn); got != "" {
		t.Errorf("made in another schema: %s", got)
	}
	if m.Schema() != "billing" {
		t.Errorf("the schema is %s", m.Schema())
	}
}
