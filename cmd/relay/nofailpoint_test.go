//go:build !failpoint

package main

import (
	"strings"
	"testing"
)

func TestAnOrdinaryBinaryRefusesFailpoints(t *testing.T) {
	env := []string{"RELAY_FAILPOINT=before-intent:1", "RELAY_DATABASE_URL=host=db", "RELAY_BROKERS=kafka:9092"}
	status, _, errs := run(t, env, "run")
	if status != exitUsage || !strings.Contains(errs, "without failpoints") {
		t.Errorf("exit status %d: %s", status, errs)
	}
}
