//go:build failpoint

package main

import (
	"syscall"
	"testing"

	"github.com/outbox-relay/relay/internal/pipeline"
)

func TestParseFailpoint(t *testing.T) {
	for value, want := range map[string]struct {
		step   pipeline.Step
		signal syscall.Signal
		n      int
	}{
		"before-intent:1":    {pipeline.BeforeIntent, syscall.SIGKILL, 1},
		"after-end:20:kill":  {pipeline.AfterEnd, syscall.SIGKILL, 20},
		"after-flush:3:stop": {pipeline.AfterFlush, syscall.SIGSTOP, 3},
	} {
		step, signal, n, err := parseFailpoint(value)
		if err != nil || step != want.step || signal != want.signal || n != want.n {
			t.Errorf("%s: got %v %v %v %v", value, step, signal, n, err)
		}
	}
	for _, value := range []string{"before-intent", "nowhere:1", "before-intent:0", "before-intent:x", "before-intent:1:maim", "a:1:kill:x"} {
		if _, err := failpoint(value); err == nil {
			t.Errorf("%s was accepted", value)
		}
	}
}
