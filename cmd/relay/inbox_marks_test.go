package main

import (
	"regexp"
	"strings"
	"testing"
)

// markedDatabase makes an inbox with marks of two sources, two claims, a parked message and a
// session.
func markedDatabase(t *testing.T) (databaseURL string, env []string) {
	t.Helper()
	databaseURL, env = inboxDatabase(t)
	execute(t, databaseURL, `
INSERT INTO inbox (consumer, source, msg_id, handled_at)
    SELECT 'billing', source, inbox_key(source || n), timestamptz '2026-03-01Z' + n * interval '1 hour'
      FROM unnest(ARRAY['shop', 'till']) AS source, generate_series(0, 47) AS n;
UPDATE inbox SET handled_at = '2026-03-01Z' WHERE handled_at > '2026-04-01Z';
INSERT INTO inbox_claims (consumer, source, msg_id, instance, claimed_at, error) VALUES
    ('billing', 'shop', inbox_key('shop7'), 'host/1/ab', '2026-03-01 07:00:00Z', NULL),
    ('billing', 'till', inbox_key('till7'), 'host/1/ab', '2026-03-01 07:00:01Z', 'no answer of the mail server');
INSERT INTO inbox_audit (consumer, action, source, msg_id) VALUES ('billing', 'unknown', 'till', 'till7');
INSERT INTO inbox_sessions (consumer, topic, partition, instance, opened_at) VALUES ('billing', 'orders', 0, 'host/1/ab', '2026-03-01Z');
SELECT inbox_retain('billing', interval '100000 days');
ANALYZE inbox`)
	return databaseURL, env
}

func TestForgetShowsWhatWouldGoFirst(t *testing.T) {
	_, env := markedDatabase(t)
	out := must(t, env, "inbox", "forget", "--consumer", "billing", "--from", "2026-03-01T00:00:00Z", "--to", "2026-03-02T02:00:00+02:00", "--dry-run")
	golden(t, "inbox-forget-dry-run", out)
	for args, want := range map[string]string{
		"--why x":                           "--consumer is missing",
		"--consumer billing --why x":        "then --yes",
		"--consumer billing --yes":          "--why is missing",
		"--consumer billing --from monday":  "is no time",
		"--consumer billing --output table": "neither text nor json",
		"--consumer billing --from 2026-03-02T00:00:00Z --to 2026-03-01T00:00:00Z --dry-run": "there is no time",
	} {
		status, _, errs := run(t, env, append([]string{"inbox", "forget"}, strings.Fields(args)...)...)
		if status != exitUsage || !strings.Contains(errs, want) || !strings.Contains(errs, "Try: ") {
			t.Errorf("%s: exit status %d\n%s", args, status, errs)
		}
	}
	form := must(t, env, "inbox", "forget", "--consumer", "billing", "--source", "shop", "--why", "wrong tax", "--yes", "--output", "json")
	golden(t, "inbox-forget-json", form)
	status, out, errs := run(t, env, "inbox", "forget", "--consumer", "billing", "--source", "till", "--claimed", "--why", "wrong tax", "--yes")
	if status != exitOK || !strings.Contains(out, "forgot 48 marks and 1 claim of consumer billing (entry ") ||
		!strings.Contains(errs, "Note: a process of consumer billing has a session") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	if out := must(t, env, "inbox", "forget", "--consumer", "nobody", "--why", "x", "--yes"); out != "consumer nobody has no such mark\n" {
		t.Errorf("of a stranger: %s", out)
	}
}

// What differs from day to day, with the blanks behind it and behind its head: a column is as wide
// as what is in it.
var someAgeOfAClaim = regexp.MustCompile(`(\d+d\d+h|AGE) +`)

func TestClaimsAreListedAndSettled(t *testing.T) {
	_, env := markedDatabase(t)
	golden(t, "inbox-claims-text", someAgeOfAClaim.ReplaceAllString(must(t, env, "inbox", "claims", "list"), "AGE  "))
	golden(t, "inbox-claims-json", someAge.ReplaceAllString(must(t, env, "inbox", "claims", "list", "--output", "json"), `"age_seconds": "AGE"`))
	settle := []string{"inbox", "claims", "settle", "--consumer", "billing", "--source", "till", "--msg-id", "till7"}
	for want, more := range map[string][]string{
		"one of --done and --not-done": {"--why", "x"},
		"--why is missing":             {"--done"},
	} {
		if status, _, errs := run(t, env, append(settle, more...)...); status != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%q: exit status %d\n%s", more, status, errs)
		}
	}
	if out := must(t, env, append(settle, "--not-done", "--why", "never sent")...); !strings.Contains(out, "handled when it comes again") {
		t.Errorf("got %s", out)
	}
	status, _, errs := run(t, env, append(settle, "--done", "--why", "x")...)
	if status != exitFailure || !strings.Contains(errs, "Try: relay inbox claims list") {
		t.Errorf("a second time: exit status %d\n%s", status, errs)
	}
	if out := must(t, env, "inbox", "claims", "list", "--source", "till"); out != "no such claim\n" {
		t.Errorf("got %s", out)
	}
}

func TestConsumersAreListed(t *testing.T) {
	_, env := markedDatabase(t)
	golden(t, "inbox-consumers-text", must(t, env, "inbox", "consumers"))
	golden(t, "inbox-consumers-json", must(t, env, "inbox", "consumers", "--output", "json"))
}

func TestSweepSaysWhatItDid(t *testing.T) {
	databaseURL, env := markedDatabase(t)
	if out := must(t, env, "inbox", "sweep"); out != "nothing to do\n" {
		t.Errorf("got %s", out)
	}
	execute(t, databaseURL, `SELECT inbox_retain('billing', interval '1 day')`)
	if out := must(t, env, "inbox", "sweep"); out != "deleted 99 marks\n" { // of which one is parked: it was marked long ago
		t.Errorf("got %s", out)
	}
	golden(t, "inbox-sweep-json", must(t, env, "inbox", "sweep", "--output", "json"))
}
