package schema

import (
	"slices"
	"testing"
)

func TestTheLayoutGoesThereAndBackWithTheRows(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	before := relations(t, conn)
	execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
	steps := names(LayoutSteps())
	arrange := func(want Layout, taken ...string) {
		t.Helper()
		done, got := record()
		if err := m.Arrange(t.Context(), want, 1000, done); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(*got, taken) {
			t.Errorf("to %s: took %q, want %q", want, *got, taken)
		}
		if is, err := m.Layout(t.Context()); err != nil || is != want {
			t.Errorf("the layout is %s with %v, want %s", is, err, want)
		}
	}
	arrange(Plain)
	arrange(Partitioned, steps...)
	arrange(Partitioned)
	execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
	slices.Reverse(steps)
	arrange(Plain, steps...)
	var rows int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM outbox").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("the outbox has %d rows (%v), want 2", rows, err)
	}
	if after := relations(t, conn); after != before {
		t.Errorf("left %s, want %s", after, before)
	}
}

// A change that was cut short between two steps goes on, or back, from there.
func TestALayoutCutShortGoesOnFromThere(t *testing.T) {
	for _, want := range []Layout{Plain, Partitioned} {
		databaseURL, conn := emptyDatabase(t)
		m := open(t, databaseURL)
		if err := m.Up(t.Context(), func(Migration) {}); err != nil {
			t.Fatal(err)
		}
		execute(t, conn, LayoutSteps()[0].Up)
		execute(t, conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type) VALUES ('order', '1', 'x')`)
		if err := m.Arrange(t.Context(), want, 0, func(Migration) {}); err != nil {
			t.Errorf("to %s: %v", want, err)
		}
		if is, err := m.Layout(t.Context()); err != nil || is != want {
			t.Errorf("the layout is %s with %v, want %s", is, err, want)
		}
	}
}

// What would stay behind with the old table is refused, and nothing changes.
func TestATableWithAViewIsNotPartitioned(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, `CREATE VIEW waiting AS SELECT id FROM outbox`)
	if err := m.Arrange(t.Context(), Partitioned, 0, func(Migration) {}); err == nil {
		t.Error("no error")
	}
	if is, err := m.Layout(t.Context()); err != nil || is != Plain {
		t.Errorf("the layout is %s with %v", is, err)
	}
	execute(t, conn, `DROP VIEW waiting`)
	if err := m.Arrange(t.Context(), Partitioned, 0, func(Migration) {}); err != nil {
		t.Error(err)
	}
}

func TestDownTakesAPartitionedOutboxOutWhole(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := open(t, databaseURL)
	if err := m.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := m.Arrange(t.Context(), Partitioned, 0, func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := m.Down(t.Context(), -1, false, func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if got, want := relations(t, conn), "relay_schema_migrations relay_schema_migrations_pkey"; got != want {
		t.Errorf("left in the schema: %s, want %s", got, want)
	}
}
