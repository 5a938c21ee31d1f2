package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/operator"
)

const parkedEvent = "01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111"

// parkedDatabase makes a database in which two aggregates are parked, one of them with a name that
// would disturb a terminal.
func parkedDatabase(t *testing.T) (databaseURL string, env []string) {
	t.Helper()
	databaseURL, env = database(t)
	must(t, env, "migrate", "up")
	execute(t, databaseURL, `INSERT INTO relay_lanes (lane, state) VALUES ('outbox', 'running')`)
	execute(t, databaseURL, `
INSERT INTO outbox_parked (lane, id, msg_id, aggregate_type, aggregate_id, type, topic, payload, created_at, seq, cause, error, parked_at)
SELECT 'outbox', id, coalesce(event, lpad(id::text, 32, '0'))::uuid, 'order', key, 'Placed', topic, payload, '2026-01-02 03:04:05Z', 1, cause,
       error, '2026-01-02 03:04:06Z'
  FROM (VALUES (1, NULL, '1', NULL, '\x01ff0a'::bytea, 'refused', E'too\nlarge: ' || repeat('x', 120) || ' by 7 bytes'),
               (2, '`+parkedEvent+`', '1', 'invoices', 'secret', 'behind', NULL),
               (3, NULL, E'\x1b[31m2', 'late', NULL, 'topic', 'topic late is unavailable')) AS r (id, event, key, topic, payload, cause, error)`)
	return databaseURL, env
}

// What differs from day to day: the age of what is parked, and with it the spaces between columns.
var (
	someAge = regexp.MustCompile(`"age_seconds": [0-9.]+`)
	someGap = regexp.MustCompile(`(\d+d\d+h)? {2,}`)
)

func TestWhatIsParkedIsListed(t *testing.T) {
	_, env := parkedDatabase(t)
	golden(t, "parked-list-text", someGap.ReplaceAllString(must(t, env, "parked", "list"), "  "))
	golden(t, "parked-list-json", someAge.ReplaceAllString(must(t, env, "parked", "list", "--output", "json"), `"age_seconds": "AGE"`))
	out := must(t, env, "parked", "list", "--limit", "1")
	if !strings.Contains(out, "2 aggregates with 3 events; 1 more not shown (--limit)") {
		t.Errorf("with a limit:\n%s", out)
	}
	if out := must(t, env, "parked", "list", "--error", "nothing like it"); out != "nothing that is parked matches\n" {
		t.Errorf("with a filter that matches nothing: %s", out)
	}
}

func TestAnAggregateIsShownAndItsPayloadOnDemandOnly(t *testing.T) {
	databaseURL, env := parkedDatabase(t)
	execute(t, databaseURL, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, requested_by, reason, requested_at)
		VALUES ('outbox', 'retry', 'order', '1', 'ada', E'two\nlines', '2026-01-02 03:04:07Z')`)
	text := must(t, env, "parked", "show", "--aggregate", "order/1")
	golden(t, "parked-show-text", text)
	form := must(t, env, "parked", "show", "--aggregate-type", "order", "--aggregate-id", "1", "--output", "json")
	golden(t, "parked-show-json", form)
	if strings.Contains(text+form, "secret") {
		t.Error("a payload is shown that was not asked for")
	}
	if out := must(t, env, "parked", "show", "--aggregate", "order/1", "--payload"); out != "\x01\xff\n" {
		t.Errorf("the payload is %q", out)
	}
	if out := must(t, env, "parked", "show", "--aggregate", "order/1", "--payload", "--msg-id", parkedEvent); out != "secret" {
		t.Errorf("the payload is %q", out)
	}
	status, out, errs := run(t, env, "parked", "show", "--aggregate", "order/\x1b[31m2", "--payload")
	if status != exitOK || out != "" || !strings.Contains(errs, "no payload") {
		t.Errorf("exit status %d: %q, %q", status, out, errs)
	}
	status, _, errs = run(t, env, "parked", "show", "--aggregate", "order/17")
	if status != exitFailure || !strings.Contains(errs, "Try: relay parked list") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}

// requests reads the audit table, a line each.
func requests(t *testing.T, env []string) []operator.Request {
	t.Helper()
	var shown struct{ Requests []operator.Request }
	if err := json.Unmarshal([]byte(must(t, env, "parked", "show", "--aggregate", "order/1", "--output", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	return shown.Requests
}

func TestARequestIsMadeOnceAndStandsWhereNoRelayRuns(t *testing.T) {
	_, env := parkedDatabase(t)
	out := must(t, env, "parked", "discard", "--msg-id", parkedEvent, "--dry-run")
	if !strings.Contains(out, "would discard 1 aggregate with 1 event; nothing was changed") || len(requests(t, env)) != 0 {
		t.Errorf("a dry run:\n%s", out)
	}
	status, out, errs := run(t, env, "parked", "retry", "--aggregate", "order/1", "--why", "mended", "--wait", "20ms")
	if status != exitFailure || !strings.Contains(out, "open") || !strings.Contains(errs, "no relay runs lane outbox") ||
		!strings.Contains(errs, "1 request was not done within 20ms") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	status, out, errs = run(t, env, "parked", "retry", "--all", "--why", "again", "--wait", "0")
	if status != exitOK || !strings.Contains(out, "open, as it was before") || !strings.Contains(errs, "Note: ") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	if made := requests(t, env); len(made) != 1 || made[0].Reason != "mended" || made[0].RequestedBy != "postgres" {
		t.Errorf("made were %+v", made)
	}
}

// What came of each request decides about the exit status. A trigger stands in for the relay.
func TestTheExitStatusTellsWhatCameOfIt(t *testing.T) {
	databaseURL, env := parkedDatabase(t)
	execute(t, databaseURL, `
CREATE FUNCTION carry_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.done_seq := 2; NEW.done_at := now();
    NEW.outcome := CASE WHEN NEW.action = 'discard' THEN 'discarded' WHEN NEW.aggregate_id = '1' THEN 'published' ELSE 'refused again: too large' END;
    NEW.events := CASE WHEN NEW.outcome LIKE 'refused%' THEN 0 ELSE 2 END;
    RETURN NEW;
END $$;
CREATE TRIGGER relay BEFORE INSERT ON outbox_parked_audit FOR EACH ROW EXECUTE FUNCTION carry_out()`)
	status, out, errs := run(t, env, "parked", "retry", "--all", "--why", "mended")
	if status != exitFailure || !strings.Contains(out, "published") || !strings.Contains(out, "refused again: too large") ||
		!strings.Contains(errs, "Error: refused again: 1 aggregate is still parked\nTry: ") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	must(t, env, "parked", "retry", "--aggregate", "order/1", "--why", "mended")
	golden(t, "parked-discard-json", must(t, env, "parked", "discard", "--aggregate", "order/1", "--why", "test data", "--yes", "--output", "json"))
	if out := must(t, env, "parked", "discard", "--aggregate", "order/17", "--why", "x", "--yes"); out != "nothing that is parked matches\n" {
		t.Errorf("of what is not parked: %s", out)
	}
}

func TestParkedWithoutItsTablesSaysWhatMakesThem(t *testing.T) {
	databaseURL, env := database(t)
	must(t, env, "migrate", "up")
	execute(t, databaseURL, "DROP TABLE outbox_parked, outbox_parked_audit")
	for _, args := range [][]string{
		{"parked", "list"}, {"parked", "show", "--aggregate", "order/1"}, {"parked", "retry", "--all", "--why", "x"}, {"status"}, {"run"},
	} {
		status, _, errs := run(t, env, args...)
		if status != exitFailure || !strings.Contains(errs, "Try: relay migrate up") {
			t.Errorf("%q: exit status %d\n%s", args, status, errs)
		}
	}
}

func TestAgesAreShortAndNeverNegative(t *testing.T) {
	for seconds, want := range map[float64]string{-3: "0s", 0: "0s", 59.9: "59s", 61: "1m1s", 3 * 3600: "3h0m", 47 * 3600: "47h0m", 49 * 3600: "2d1h"} {
		if got := age(seconds); got != want {
			t.Errorf("%v seconds are %s, want %s", seconds, got, want)
		}
	}
}
