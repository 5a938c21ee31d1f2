package integration

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/relay"
)

// dumpInto copies the tables of one database into the empty ones of another, with every column, as pg_dump does.
func dumpInto(t *testing.T, from, to string, tables ...string) {
	t.Helper()
	source, target := connect(t, from), connect(t, to)
	for _, table := range tables {
		var dump bytes.Buffer
		if _, err := source.PgConn().CopyTo(t.Context(), &dump, "COPY "+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
		if _, err := target.PgConn().CopyFrom(t.Context(), &dump, "COPY "+table+" FROM STDIN"); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, to, "SELECT setval(pg_get_serial_sequence('outbox', 'id'), (SELECT max(id) FROM outbox))")
}

// The database is dumped and restored on another server, which has had fewer transactions: the rows bear ids of its future.
func TestRecoverFromADumpOnAnotherServer(t *testing.T) {
	t.Parallel()
	server, url := ownPostgres(t)
	execute(t, url, "DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
	c := newRecoveryCase(t, url, brokers(t))
	c.start()
	published := c.publish(6)
	c.stop()
	waiting := c.write(4)
	_, other := ownPostgres(t)
	dumpInto(t, url, other, "outbox", "relay_lanes")
	if err := server.ShutDown(); err != nil {
		t.Fatal(err)
	}
	c.url = other
	c.configure()
	c.start()
	c.awaitHalt("system identifier", "dumped and restored")
	f := c.findings()
	if f.Cause != relay.ForeignRows || len(f.Choices) > 0 {
		t.Fatalf("cause %s, choices %+v", f.Cause, f.Choices)
	}
	_, statement, _ := strings.Cut(f.Try, "run ")
	statement, _, _ = strings.Cut(statement, ";")
	execute(t, other, statement)
	f = c.findings("--scan")
	if f.Cause != relay.AnotherDatabase {
		t.Errorf("cause %s", f.Cause)
	}
	c.mustClose(f, relay.ChooseKafka)
	c.mustClose(f, relay.ChoosePostgres)
	// The scan finds out what the new server cannot know.
	restart := c.option(f, relay.ChooseRestartFrom)
	c.counts(restart, waiting, published, nil)
	c.counts(c.option(f, relay.ChooseSkipToNow), nil, nil, waiting)
	c.expect(once("before", published))
	c.choose(relay.ChooseRestartFrom, "--from", restart.New.First.CreatedAt.Format(time.RFC3339Nano))
	c.awaitAll()
	last := c.publish(2)
	c.stop()
	c.expect(once("everything", published, waiting, last))
}

// Two at once choose: one of them is refused, or finds that the other has settled it, and nothing comes twice.
func TestTwoRecoverAtOnce(t *testing.T) {
	t.Parallel()
	c := newRecoveryCase(t, database(t), brokers(t))
	c.start()
	before := c.publish(5)
	c.stop()
	execute(t, c.url, "UPDATE relay_lanes SET seq = seq - 1, confirmed_seq = confirmed_seq - 1")
	after := c.write(3)
	c.start()
	c.awaitHalt("Postgres knows only of batch")
	arguments := []string{"recover", "outbox", "--choose", "kafka", "--yes"}
	one, two := startRelay(t, c.settings, arguments...), startRelay(t, c.settings, arguments...)
	done := 0
	for _, process := range []*relayProcess{one, two} {
		switch status := process.Wait(time.Minute); status {
		case 0:
			done++
		case 1:
			if !bytes.Contains(process.Stderr(), []byte("Error:")) {
				t.Errorf("refused without a reason: %s", process.Stderr())
			}
		default:
			t.Errorf("ended with status %d", status)
		}
	}
	if done == 0 { // each has disturbed the other, and the lane still halts
		c.choose(relay.ChooseKafka)
	}
	c.awaitAll()
	c.stop()
	c.expect(once("everything", before, after))
	conn := connect(t, c.url)
	var finished int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM relay_recoveries WHERE finished_at IS NOT NULL").Scan(&finished); err != nil ||
		finished != max(done, 1) {
		t.Errorf("%d recoveries are recorded (%v), and %d commands have succeeded", finished, err, done)
	}
}
