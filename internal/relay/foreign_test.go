package relay

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/harness/outboxtest"
)

// A row of a transaction that has not ended would be published at every look: 99,000 times in a
// minute. It is not published once.
func TestARowOfAnotherTransactionHaltsTheRunningLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	outboxtest.Unguard(t, r.conn)
	want := r.insertOrders(3, "v")
	running := r.start(r.config())
	running.awaitRows(t, 3)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, xact_id)
VALUES ('order', 'foreign', 'Changed', 'foreign', '4000000000')`)
	reason := running.awaitState(t, Halted)
	if !strings.Contains(reason, "4000000000") || !strings.Contains(reason, "again and again") {
		t.Errorf("the lane halted: %s", reason)
	}
	running.stop()
	r.expect(orders, want)
	// What is to be tried is run as it stands there.
	try := r.mustHalt(checkpoint.ForeignRows, "4000000000")
	_, statement, _ := strings.Cut(try, "run ")
	statement, _, _ = strings.Cut(statement, ";")
	exec(t, r.conn, statement)
	r.goesOn()
	r.expect(orders, merge(want, map[string][]string{"foreign": {"foreign"}}, theEnd))
}

// A write of xact_id is refused, in both layouts, in every way: such a row would never be
// published, and be removed as if it had been.
func TestARowOfAnotherTransactionIsRefused(t *testing.T) {
	t.Parallel()
	for _, partitioned := range []bool{false, true} {
		url := newDatabase(t)
		conn := open(t, url)
		if partitioned {
			outboxtest.Partition(t, conn, 1000)
		}
		insert(t, conn, "o", "v")
		dumped := dumpOf(t, conn)
		exec(t, conn, `CREATE TABLE copied AS SELECT * FROM outbox; CREATE TABLE plain AS SELECT id, xact_id::text::xid8 AS xact_id FROM outbox`)
		const columns = `(aggregate_type, aggregate_id, type, xact_id)`
		for name, statement := range map[string]string{
			"of the past":              `INSERT INTO outbox ` + columns + ` VALUES ('o', '1', 'T', '3')`,
			"of the future":            `INSERT INTO outbox ` + columns + ` VALUES ('o', '1', 'T', '4000000000')`,
			"a copy":                   `INSERT INTO outbox OVERRIDING USER VALUE SELECT * FROM copied`,
			"a copy of another type":   `INSERT INTO outbox ` + columns + ` SELECT 'o', '1', 'T', xact_id FROM plain`,
			"an update":                `UPDATE outbox SET xact_id = '3'`,
			"replication":              `SET session_replication_role = replica; INSERT INTO outbox ` + columns + ` SELECT 'o', '1', 'T', xact_id FROM copied`,
			"replication, by its text": `SET session_replication_role = replica; INSERT INTO outbox ` + columns + ` VALUES ('o', '1', 'T', '3')`,
		} {
			_, err := conn.PgConn().Exec(t.Context(), statement).ReadAll()
			refusedAsForeign(t, fmt.Sprintf("%s, partitioned %t", name, partitioned), err)
			exec(t, conn, `RESET session_replication_role`)
		}
		exec(t, conn, `DELETE FROM outbox`)
		_, err := conn.PgConn().CopyFrom(t.Context(), bytes.NewReader(dumped), `COPY outbox FROM STDIN`)
		refusedAsForeign(t, fmt.Sprintf("a data-only restore, partitioned %t", partitioned), err)
		if got := query[int](t, conn, `SELECT count(*) FROM outbox`); got != 0 {
			t.Errorf("partitioned %t: %d rows came in", partitioned, got)
		}
		// What has the right to is not in the way: corrections, and the way out of a dump of another
		// server.
		insert(t, conn, "o", "v")
		exec(t, conn, `UPDATE outbox SET payload = 'corrected', created_at = now()`)
		exec(t, conn, `UPDATE outbox SET xact_id = pg_current_xact_id()`)
	}
}

func dumpOf(t *testing.T, conn *pgx.Conn) []byte {
	t.Helper()
	var dump bytes.Buffer
	if _, err := conn.PgConn().CopyTo(t.Context(), &dump, `COPY (SELECT * FROM outbox) TO STDOUT`); err != nil {
		t.Fatal(err)
	}
	return dump.Bytes()
}

// refusedAsForeign checks that it was the guard, and that it says so.
func refusedAsForeign(t *testing.T, what string, err error) {
	t.Helper()
	const checkViolation = "23514"
	pg, ok := err.(*pgconn.PgError) //nolint:errorlint // it is not wrapped
	if !ok || pg.Code != checkViolation {
		t.Errorf("%s: %v", what, err)
		return
	}
	if pg.ConstraintName != "outbox_xact_id_must_be_of_this_transaction" && !strings.Contains(pg.Message, "would never be published") {
		t.Errorf("%s: %s", what, pg.Message)
	}
}

// unbounded takes away the bounds of the outbox's columns, as in a table that is older than they
// are.
func unbounded(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	exec(t, conn, `DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT conname, contypid::regtype AS domain FROM pg_constraint WHERE contypid::regtype::text ~ '^outbox_' LOOP
        EXECUTE format('ALTER DOMAIN %s DROP CONSTRAINT %I', c.domain, c.conname);
    END LOOP;
END $$`)
}
