package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/hint"
)

// audit lists the requests as by/action/key/event/reason.
func audit(t *testing.T, conn *pgx.Conn) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), `SELECT concat_ws('/', requested_by, action, lane, aggregate_id, coalesce(msg_id::text, '-'), reason)
		FROM outbox_parked_audit ORDER BY request`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func wantAudit(t *testing.T, conn *pgx.Conn, want ...string) {
	t.Helper()
	if got := audit(t, conn); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the audit table holds\n%q, want\n%q", got, want)
	}
}

func TestAnOperatorAsksInItsOwnNameAndForWhatIsParkedOnly(t *testing.T) {
	databaseURL, owner := database(t)
	parkSome(t, owner)
	conn := relayOperator(t, databaseURL, owner, "ada")
	for _, f := range []OutboxFilter{{Lane: "outbox"}, {AggregateID: "4"}, {AggregateID: "17"}} {
		if _, err := NewOutbox(conn).Ask(t.Context(), Retry, f, "mended"); err != nil {
			t.Fatal(err)
		}
	}
	asked, err := NewOutbox(conn).Ask(t.Context(), Discard, OutboxFilter{Filter: Filter{MsgID: theEvent}}, "test data")
	if err != nil || len(asked) != 1 || asked[0].Rows != 1 || *asked[0].MsgID != theEvent || asked[0].Joined {
		t.Errorf("got %+v, %v", asked, err)
	}
	wantAudit(t, owner, "ada/retry/outbox/2/-/mended", "ada/retry/outbox/1/-/mended", "ada/discard/outbox/1/"+theEvent+"/test data")
	if _, err := NewOutbox(conn).List(t.Context(), OutboxFilter{}); err != nil {
		t.Error(err)
	}
	if _, err := NewOutbox(conn).Show(t.Context(), order("", "1"), 0); err != nil {
		t.Error(err)
	}
	if _, err := NewOutbox(conn).Payload(t.Context(), order("", "1")); err != nil {
		t.Error(err)
	}
	if idle, err := NewOutbox(conn).Idle(t.Context(), asked); err != nil || len(idle) != 1 {
		t.Errorf("%v, %v", idle, err)
	}
	execute(t, owner, "REVOKE INSERT ON outbox_parked_audit FROM relay_operator")
	_, err = NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{}, "x")
	if err == nil || !strings.Contains(strings.Join(hint.Of(err), ""), "relay_operator") {
		t.Errorf("without the right: %v with hints %q", err, hint.Of(err))
	}
}

func TestAnOperatorCannotChangeRowsNorForgeTheRecord(t *testing.T) {
	databaseURL, owner := database(t)
	parkSome(t, owner)
	conn := relayOperator(t, databaseURL, owner, "eve")
	for _, statement := range []string{
		"UPDATE outbox_parked SET payload = NULL", "DELETE FROM outbox_parked", "TRUNCATE outbox_parked",
		"UPDATE outbox_parked_audit SET reason = 'x'", "DELETE FROM outbox_parked_audit", "SELECT * FROM outbox", "UPDATE relay_lanes SET seq = 0",
		`INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason, requested_by) VALUES ('outbox', 'retry', 'order', '1', 'x', 'ada')`,
		`INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason, done_seq) VALUES ('outbox', 'retry', 'order', '1', 'x', 1)`,
	} {
		_, err := conn.Exec(t.Context(), statement)
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "42501" {
			t.Errorf("%s: %v", statement, err)
		}
	}
}

// What the owner has freed between the look and the request is not asked about: no relay would look
// at it.
func TestOnlyWhatIsStillParkedIsAskedAbout(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	lanes, types, ids := []string{"outbox", "outbox", "outbox"}, []string{"order", "order", "order"}, []string{"17", "4", "1"}
	rows, err := conn.Query(t.Context(), askQuery, lanes, types, ids, nil, "retry", "why")
	if err != nil {
		t.Fatal(err)
	}
	var place int
	if _, err = pgx.ForEachRow(rows, []any{&place, new(int64), new(bool)}, func() error {
		if place != 3 {
			t.Errorf("asked about %s", ids[place-1])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wantAudit(t, conn, "postgres/retry/outbox/1/-/why")
}

func TestWhatIsOpenAlreadyIsJoined(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	first, err := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{AggregateID: "1"}, "first")
	if err != nil {
		t.Fatal(err)
	}
	second, err := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{Lane: "outbox"}, "second")
	if err != nil || len(second) != 2 {
		t.Fatalf("%+v, %v", second, err)
	}
	if joined := second[1]; !joined.Joined || *joined.Request != *first[0].Request || second[0].Joined {
		t.Errorf("got %+v", second)
	}
	if _, err := NewOutbox(conn).Ask(t.Context(), Discard, OutboxFilter{AggregateID: "1"}, "another action"); err != nil {
		t.Fatal(err)
	}
	execute(t, conn, "UPDATE outbox_parked_audit SET done_seq = 9, done_at = now() WHERE request = 1")
	if _, err := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{AggregateID: "1"}, "after the first was done"); err != nil {
		t.Fatal(err)
	}
	wantAudit(t, conn, "postgres/retry/outbox/1/-/first", "postgres/retry/outbox/2/-/second", "postgres/discard/outbox/1/-/another action",
		"postgres/retry/outbox/1/-/after the first was done")
}

func TestADryRunAsksForNothing(t *testing.T) {
	_, conn := database(t)
	parkSome(t, conn)
	asked, err := NewOutbox(conn).Plan(t.Context(), OutboxFilter{Lane: "outbox", Filter: Filter{Limit: 1}})
	if err != nil || len(asked) != 1 || asked[0].Request != nil || asked[0].AggregateID != "2" || asked[0].Rows != 1 {
		t.Errorf("got %+v, %v", asked, err)
	}
	wantAudit(t, conn)
}

func TestAwaitFillsInWhatCameOfEach(t *testing.T) {
	databaseURL, conn := database(t)
	parkSome(t, conn)
	asked, err := NewOutbox(conn).Ask(t.Context(), Retry, OutboxFilter{Lane: "outbox"}, "why")
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewOutbox(conn).Await(over, asked); !errors.Is(err, context.Canceled) || asked[0].Done {
		t.Errorf("got %v and %+v", err, asked)
	}
	relay := testpg.Connect(t, databaseURL)
	done := make(chan error, 1)
	go func() { done <- NewOutbox(conn).Await(t.Context(), asked) }()
	// Closed, and not yet committed to Kafka: that is not done.
	execute(t, relay, "UPDATE outbox_parked_audit SET done_seq = 9, outcome = 'published'")
	execute(t, relay, "UPDATE outbox_parked_audit SET done_at = now(), events = 3 WHERE aggregate_id = '1'")
	execute(t, relay, "UPDATE outbox_parked_audit SET done_at = now(), outcome = 'refused again: too large' WHERE aggregate_id = '2'")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	refused, published := asked[0], asked[1]
	if !published.Done || *published.Outcome != "published" || published.Events != 3 || published.FailedAgain() {
		t.Errorf("got %+v", published)
	}
	if !refused.Done || refused.Events != 0 || !refused.FailedAgain() {
		t.Errorf("got %+v", refused)
	}
}

func TestALaneThatCarriesNothingOutIsNamed(t *testing.T) {
	databaseURL, conn := database(t)
	owner := testpg.Connect(t, databaseURL)
	asked := []AskedAggregate{{AggregateName: AggregateName{Lane: "outbox"}}}
	want := func(part string) {
		t.Helper()
		idle, err := NewOutbox(conn).Idle(t.Context(), asked)
		if err != nil || !strings.Contains(strings.Join(idle, "; "), part) || len(idle) > 1 || part == "" && len(idle) != 0 {
			t.Errorf("got %q, %v; want %q", idle, err, part)
		}
	}
	want("no relay runs lane outbox")
	execute(t, owner, `UPDATE relay_lanes SET owner_pid = pg_backend_pid(), owner_started = (SELECT backend_start
		FROM pg_stat_activity WHERE pid = pg_backend_pid())`)
	want("")
	execute(t, conn, "UPDATE relay_lanes SET state = 'halted', reason = 'the checkpoint topic is gone'")
	want("lane outbox is halted, so requests about it wait: the checkpoint topic is gone")
}
