package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestInboxMigrateThereAndBack(t *testing.T) {
	databaseURL, env := database(t)
	plan := must(t, env, "inbox", "migrate", "up", "--dry-run")
	if printed := must(t, nil, "inbox", "migrate", "print"); plan != printed || !strings.Contains(plan, "CREATE TABLE inbox ") ||
		strings.Contains(plan, "CREATE TABLE outbox") {
		t.Errorf("the dry run on an empty database differs from print:\n%s", plan)
	}
	must(t, env, "inbox", "migrate", "up")
	if out := must(t, env, "inbox", "migrate", "up"); !strings.HasPrefix(out, "nothing to do") {
		t.Errorf("got %s", out)
	}
	if out := must(t, env, "inbox", "migrate", "status"); strings.Contains(out, "pending") || strings.Contains(out, "layout") {
		t.Errorf("got %s", out)
	}
	var status map[string]any
	if err := json.Unmarshal([]byte(must(t, env, "inbox", "migrate", "status", "--output", "json")), &status); err != nil {
		t.Fatal(err)
	}
	if _, layout := status["layout"]; layout || status["schema"] != "public" || status["migrations"] == nil {
		t.Errorf("got %v", status)
	}
	if out := must(t, env, "migrate", "status"); strings.Contains(out, "applied") {
		t.Errorf("the tables of the outbox came with those of the inbox:\n%s", out)
	}
	execute(t, databaseURL, "SELECT inbox_accept('billing', 'orders', '1')")
	code, _, errs := run(t, env, "inbox", "migrate", "down", "--all")
	if code != exitFailure || !strings.Contains(errs, "1 row of inbox") || !strings.Contains(errs, "Try: stop every consumer") {
		t.Errorf("exit status %d: %s", code, errs)
	}
	if out := must(t, env, "inbox", "migrate", "down", "--all", "--yes"); !strings.Contains(out, "removed 0001_inbox") {
		t.Errorf("got %s", out)
	}
}

// TestThePrintedSQLOfTheInboxRuns feeds what print says to Postgres, there and back.
func TestThePrintedSQLOfTheInboxRuns(t *testing.T) {
	databaseURL, _ := database(t)
	execute(t, databaseURL, must(t, nil, "inbox", "migrate", "print"))
	execute(t, databaseURL, must(t, nil, "inbox", "migrate", "print", "--down"))
}
