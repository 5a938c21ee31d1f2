//go:build long

package relay

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/kit"
	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
	"github.com/outbox-relay/relay/internal/sandbox"
)

// dumpInto copies the tables of one database into the empty ones of another, with every column, as
// pg_dump does.
func dumpInto(t *testing.T, from, to string, tables ...string) {
	t.Helper()
	source, target := kit.Connect(t, from), kit.Connect(t, to)
	// pg_dump adds what refuses rows of other transactions after the data.
	const guard = "outbox_xact_id_must_be_of_this_transaction"
	kit.Execute(t, to, "ALTER DOMAIN outbox_xact_id DROP CONSTRAINT "+guard+"; ALTER TABLE outbox DISABLE TRIGGER outbox_own_transaction")
	for _, table := range tables {
		var dump bytes.Buffer
		if _, err := source.PgConn().CopyTo(t.Context(), &dump, "COPY "+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
		if _, err := target.PgConn().CopyFrom(t.Context(), &dump, "COPY "+table+" FROM STDIN"); err != nil {
			t.Fatal(err)
		}
	}
	kit.Execute(t, to, "ALTER DOMAIN outbox_xact_id ADD CONSTRAINT "+guard+" CHECK (VALUE = pg_current_xact_id()) NOT VALID; "+
		"ALTER TABLE outbox ENABLE ALWAYS TRIGGER outbox_own_transaction")
	kit.Execute(t, to, "SELECT setval(pg_get_serial_sequence('outbox', 'id'), (SELECT max(id) FROM outbox))")
}

// The database is dumped and restored on another server, which has had fewer transactions: the rows
// bear ids of its future.
func TestRecoverFromADumpOnAnotherServer(t *testing.T) {
	t.Parallel()
	server, url := kit.OwnPostgres(t)
	kit.Execute(t, url, "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	c := newRecoveryCase(t, url, kit.Brokers(t))
	c.start()
	published := c.publish(6)
	c.stop()
	waiting := c.write(4)
	_, other := kit.OwnPostgres(t)
	dumpInto(t, url, other, "outbox", "relay_lanes")
	if err := server.ShutDown(); err != nil {
		t.Fatal(err)
	}
	c.url = other
	c.configure()
	c.start()
	c.awaitHalt("system identifier", "dumped and restored")
	f := c.findings()
	if f.Cause != checkpoint.ForeignRows || len(f.Choices) > 0 {
		t.Fatalf("cause %s, choices %+v", f.Cause, f.Choices)
	}
	_, statement, _ := strings.Cut(f.Try, "run ")
	statement, _, _ = strings.Cut(statement, ";")
	kit.Execute(t, other, statement)
	f = c.findings("--scan")
	if f.Cause != checkpoint.AnotherDatabase {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, recovery.ChooseKafka)
	c.mustClose(f, recovery.ChoosePostgres)
	// The scan finds out what the new server cannot know.
	restart := c.option(f, recovery.ChooseRestartFrom)
	c.counts(restart, waiting, published, nil)
	c.counts(c.option(f, recovery.ChooseSkipToNow), nil, nil, waiting)
	c.expect(once("before", published))
	c.choose(recovery.ChooseRestartFrom, "--from", restart.New.First.CreatedAt.Format(time.RFC3339Nano))
	c.awaitAll()
	last := c.publish(2)
	c.stop()
	c.expect(once("everything", published, waiting, last))
}

// A copy of the server runs beside the original, on the same timeline, and the two publish under
// one name: each writes one row, so that even their snapshots are the same. Only the names of the
// batches differ.
func TestATwinIsToldFromTheOriginal(t *testing.T) {
	t.Parallel()
	server, url := kit.OwnPostgres(t)
	c := newRecoveryCase(t, url, kit.Brokers(t))
	c.start()
	kept := c.publish(3)
	c.stop()
	backup := backUp(t, server)
	twin, err := server.Copy(t.Context(), backup, sandbox.Recovery{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := twin.Stop(); err != nil {
			t.Error(err)
		}
	})
	original := c.write(1)
	// Killed with the intent of its batch written, and not committed.
	c.relay = kit.StartRelay(t, append(c.settings, "RELAY_FAILPOINT=before-end:1"), "run")
	if status := c.relay.Wait(time.Minute); status != -1 {
		t.Fatalf("the relay ended with status %d", status)
	}
	c.url = twin.DatabaseURL("app")
	c.configure()
	c.start()
	of := c.publish(1)
	c.stop()
	c.url = url
	c.configure()
	c.start()
	c.awaitHalt("it is not the same batch", "a copy of it has published")
	f := c.findings("--scan")
	if f.Cause != checkpoint.AnotherBatch {
		t.Errorf("cause %s", f.Cause)
	}
	c.counts(c.option(f, recovery.ChoosePostgres), original, nil, nil)
	c.expect(once("before and of the twin", kept, of), never("of the original", original))
	c.choose(recovery.ChoosePostgres)
	c.awaitAll()
	c.stop()
	c.expect(once("of both", kept, of, original))
}
