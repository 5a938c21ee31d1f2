package schema

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func openInbox(t *testing.T, databaseURL string) *Migrator {
	t.Helper()
	m, err := Inbox.Open(t.Context(), databaseURL, 10*time.Second)
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

func TestTheInboxNeedsNoOutbox(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	m := openInbox(t, databaseURL)
	done, applied := record()
	if err := m.Up(t.Context(), done); err != nil {
		t.Fatal(err)
	}
	all := names(Inbox.Migrations())
	if !slices.Equal(*applied, all) {
		t.Errorf("applied %q, want %q", *applied, all)
	}
	var first, again bool
	err := conn.QueryRow(t.Context(), `SELECT inbox_accept('billing', 'orders', '1')`).Scan(&first)
	if err := errors.Join(err, conn.QueryRow(t.Context(), `SELECT inbox_accept('billing', 'orders', '1')`).Scan(&again)); err != nil {
		t.Fatal(err)
	}
	if !first || again {
		t.Errorf("the first time %v, the second time %v", first, again)
	}
	err = m.Down(t.Context(), -1, false, func(Migration) {})
	loss, ok := errors.AsType[*LossError](err)
	if !ok || !slices.Equal(loss.Tables, []string{"1 row of inbox"}) {
		t.Fatalf("got %v", err)
	}
	done, removed := record()
	if err := m.Down(t.Context(), -1, true, done); err != nil {
		t.Fatal(err)
	}
	if slices.Reverse(all); !slices.Equal(*removed, all) {
		t.Errorf("removed %q, want %q", *removed, all)
	}
	if got, want := relations(t, conn), "relay_inbox_migrations relay_inbox_migrations_pkey"; got != want {
		t.Errorf("left in the schema: %s, want %s", got, want)
	}
}

// Both may be in one schema: a service that consumes and writes events in one transaction has
// them so.
func TestOutboxAndInboxInOneSchemaKnowNothingOfEachOther(t *testing.T) {
	databaseURL, conn := emptyDatabase(t)
	outbox, inbox := open(t, databaseURL), openInbox(t, databaseURL)
	if err := outbox.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	before := relations(t, conn)
	status, err := inbox.Status(t.Context())
	if err != nil || slices.ContainsFunc(status, func(s Status) bool { return s.Applied }) {
		t.Errorf("of an inbox that is not there: %+v, %v", status, err)
	}
	if err := inbox.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := outbox.Down(t.Context(), 1, false, func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := outbox.Up(t.Context(), func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	if err := inbox.Down(t.Context(), -1, false, func(Migration) {}); err != nil {
		t.Fatal(err)
	}
	after := strings.Replace(relations(t, conn), "relay_inbox_migrations relay_inbox_migrations_pkey ", "", 1)
	if after != before {
		t.Errorf("left %s, want %s", after, before)
	}
}
