package main

import (
	"regexp"
	"strings"
	"testing"
)

// inboxDatabase makes the tables of an inbox in which two keys are parked, one of them with a name
// that would disturb a terminal, and one message without a key.
func inboxDatabase(t *testing.T) (databaseURL string, env []string) {
	t.Helper()
	databaseURL, env = database(t)
	must(t, env, "inbox", "migrate", "up")
	execute(t, databaseURL, `
INSERT INTO inbox_parked_keys (consumer, topic, key, parked_at) VALUES
    ('billing', 'orders', 'order 1', '2026-01-02 03:04:05Z'), ('billing', 'orders', '\x1b5b33316d32', '2026-01-02 03:04:06Z'),
    ('reports', 'orders', NULL, '2026-01-02 03:04:07Z');
INSERT INTO inbox_parked (key_id, source, msg_id, type, partition, "offset", record_time, header_names, header_values, payload, cause, error,
                          attempts, parked_at)
SELECT key_id, 'shop', id, 'Placed', 3, "offset", '2026-01-02 03:04:04Z', '{}', '{}', payload, cause, error, attempts,
       timestamptz '2026-01-02 03:04:05Z' + "offset" * interval '1 s'
  FROM (VALUES (1, 'a', 1, '\x01ff0a'::bytea, 'permanent', E'no such\naccount: ' || repeat('x', 120) || ' by 7 bytes', 1),
               (1, '`+parkedEvent+`', 2, 'secret', 'behind', NULL, 0),
               (2, 'b', 3, 'secret', 'crash', 'the process ended while it was handled', 3),
               (3, 'c', 4, NULL, 'identity', 'no header msg_id', 0)) AS m (key_id, id, "offset", payload, cause, error, attempts);
INSERT INTO inbox (consumer, source, msg_id) SELECT consumer, source, inbox_key(msg_id) FROM inbox_parked p JOIN inbox_parked_keys k ON k.id = key_id`)
	return databaseURL, env
}

func TestWhatAConsumerHasParkedIsListed(t *testing.T) {
	_, env := inboxDatabase(t)
	golden(t, "inbox-parked-list-text", someGap.ReplaceAllString(must(t, env, "inbox", "parked", "list"), "  "))
	list := must(t, env, "inbox", "parked", "list", "--output", "json")
	golden(t, "inbox-parked-list-json", someAge.ReplaceAllString(list, `"age_seconds": "AGE"`))
	if out := must(t, env, "inbox", "parked", "list", "--limit", "1"); !strings.Contains(out, "3 keys with 4 messages; 2 more not shown (--limit)") {
		t.Errorf("with a limit:\n%s", out)
	}
	if out := must(t, env, "inbox", "parked", "list", "--key-hex", "00ff"); out != "nothing that is parked matches\n" {
		t.Errorf("with a filter that matches nothing: %s", out)
	}
	if out := must(t, env, "inbox", "parked", "list", "--key-hex", "1b5b33316d32", "--cause", "crash"); !strings.Contains(out, "1 key with 1 message") {
		t.Errorf("by the bytes of the key:\n%s", out)
	}
}

func TestAParkedKeyIsShownAndItsPayloadOnDemandOnly(t *testing.T) {
	databaseURL, env := inboxDatabase(t)
	execute(t, databaseURL, `INSERT INTO inbox_audit (at, consumer, action, topic, key, by, reason, details)
		VALUES ('2026-01-02 03:04:07Z', 'billing', 'retry', 'orders', 'order 1', 'ada', E'two\nlines', '{"key_id": 1}')`)
	execute(t, databaseURL, `UPDATE inbox_parked_keys SET requested_at = '2026-01-02 03:04:07Z', requested_by = 'ada', reason = 'mended' WHERE id = 1`)
	text := must(t, env, "inbox", "parked", "show", "--key", "order 1")
	golden(t, "inbox-parked-show-text", text)
	form := must(t, env, "inbox", "parked", "show", "--key-id", "1", "--output", "json")
	golden(t, "inbox-parked-show-json", form)
	if strings.Contains(text+form, "secret") {
		t.Error("a payload is shown that was not asked for")
	}
	if out := must(t, env, "inbox", "parked", "show", "--key-id", "1", "--payload"); out != "\x01\xff\n" {
		t.Errorf("the payload is %q", out)
	}
	if out := must(t, env, "inbox", "parked", "show", "--msg-id", parkedEvent, "--payload"); out != "secret" {
		t.Errorf("the payload is %q", out)
	}
	status, out, errs := run(t, env, "inbox", "parked", "show", "--msg-id", "c", "--payload")
	if status != exitOK || out != "" || !strings.Contains(errs, "tombstone") {
		t.Errorf("exit status %d: %q, %q", status, out, errs)
	}
	status, _, errs = run(t, env, "inbox", "parked", "show", "--key-id", "17")
	if status != exitFailure || !strings.Contains(errs, "Try: relay inbox parked list") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}

func TestARetryWaitsForAConsumerAndStandsWhereNoneRuns(t *testing.T) {
	_, env := inboxDatabase(t)
	out := must(t, env, "inbox", "parked", "retry", "--consumer", "billing", "--dry-run")
	if !strings.Contains(out, "would retry 2 keys with 3 messages; nothing was changed") {
		t.Errorf("a dry run:\n%s", out)
	}
	status, out, errs := run(t, env, "inbox", "parked", "retry", "--key-id", "1", "--why", "mended", "--wait", "20ms")
	if status != exitFailure || !strings.Contains(out, "open") || !strings.Contains(errs, "Note: no process of consumer billing has a session") ||
		!strings.Contains(errs, "1 retry was not done within 20ms") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	status, out, errs = run(t, env, "inbox", "parked", "retry", "--all", "--why", "again", "--wait", "0")
	if status != exitOK || !strings.Contains(out, "open, as it was before") || strings.Count(errs, "Note: ") != 2 {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
}

// What came of each retry decides about the exit status. A trigger stands in for the consumer.
func TestTheExitStatusTellsWhatCameOfARetry(t *testing.T) {
	databaseURL, env := inboxDatabase(t)
	execute(t, databaseURL, `
CREATE FUNCTION consume() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.id = 1 THEN
        DELETE FROM inbox_parked WHERE key_id = 1 AND msg_id = 'a';
        UPDATE inbox_parked SET error = 'still no such account', attempts = attempts + 1 WHERE key_id = 1;
        UPDATE inbox_parked_keys SET requested_at = NULL WHERE id = 1;
    ELSE
        DELETE FROM inbox_parked WHERE key_id = NEW.id;
        DELETE FROM inbox_parked_keys WHERE id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER consumer AFTER UPDATE ON inbox_parked_keys FOR EACH ROW WHEN (OLD.requested_at IS NULL AND NEW.requested_at IS NOT NULL)
    EXECUTE FUNCTION consume()`)
	status, out, errs := run(t, env, "inbox", "parked", "retry", "--all", "--why", "mended")
	if status != exitFailure || !strings.Contains(out, "failed again, 1 left: still no such account") || strings.Count(out, "done\n") != 2 ||
		!strings.Contains(errs, "Error: failed again: 1 key is still parked\nTry: ") {
		t.Errorf("exit status %d\n%s%s", status, out, errs)
	}
	status, form, _ := run(t, env, "inbox", "parked", "retry", "--all", "--why", "mended", "--output", "json")
	if golden(t, "inbox-parked-retry-json", form); status != exitFailure {
		t.Errorf("exit status %d", status)
	}
}

func TestDiscardSaysWhatIsLeft(t *testing.T) {
	_, env := inboxDatabase(t)
	out := must(t, env, "inbox", "parked", "discard", "--msg-id", "a", "--dry-run")
	if !strings.Contains(out, "would discard 1 message of 1 key; nothing was changed") {
		t.Errorf("a dry run:\n%s", out)
	}
	status, _, errs := run(t, env, "inbox", "parked", "discard", "--msg-id", "a", "--why", "test data")
	if status != exitUsage || !strings.Contains(errs, "then --yes") {
		t.Errorf("without --yes: exit status %d\n%s", status, errs)
	}
	out = must(t, env, "inbox", "parked", "discard", "--msg-id", "a", "--why", "test data", "--yes")
	if !strings.Contains(out, "discarded 1 message of 1 key\n1 message is still parked behind them; relay inbox parked retry handles them") {
		t.Errorf("got\n%s", out)
	}
	golden(t, "inbox-parked-discard-json", must(t, env, "inbox", "parked", "discard", "--key", "order 1", "--why", "test data", "--yes", "--output", "json"))
	shown := must(t, env, "inbox", "parked", "list")
	if !strings.Contains(shown, "2 keys with 2 messages") {
		t.Errorf("left are\n%s", shown)
	}
}

func TestFaultsOfTheArgumentsOfParkedKeys(t *testing.T) {
	for args, want := range map[string]string{
		"list --cause refused":                            "permanent, attempts, crash, identity, size, behind",
		"list --key 1 --key-hex 31":                       "exclude each other",
		"list --key-hex 0x":                               "not hexadecimal",
		"list --limit -1":                                 "less than 0",
		"list --key-id 0":                                 "less than 1",
		"list --older-than soon":                          "not a duration",
		"show":                                            "which key",
		"show --consumer billing":                         "which key",
		"show --key-id 1 --payload --output json":         "exclude each other",
		"retry --why mended":                              "which",
		"retry --all":                                     "--why is missing",
		"discard --all --why x":                           "--yes",
		"discard --why x --yes":                           "which",
		"retry --all --why x --wait never":                "not a duration",
		"list --output yaml":                              "neither text nor json",
		"retry --key-id 1 --why x --output xml --dry-run": "neither text nor json",
	} {
		status, out, errs := run(t, nil, append([]string{"inbox", "parked"}, strings.Fields(args)...)...)
		if status != exitUsage || out != "" || !strings.Contains(errs, want) || !regexp.MustCompile(`(?m)^Try: `).MatchString(errs) {
			t.Errorf("%s: exit status %d\n%s%s", args, status, out, errs)
		}
	}
	_, env := database(t)
	status, _, errs := run(t, env, "inbox", "parked", "list")
	if status != exitFailure || !strings.Contains(errs, "Try: relay inbox migrate up") {
		t.Errorf("without tables: exit status %d\n%s", status, errs)
	}
}
