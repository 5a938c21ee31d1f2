package screen

import (
	"bytes"
	"fmt"
	"testing"
	"time"
)

func TestTheScreenRedrawsOnATerminalOnly(t *testing.T) {
	for terminal, want := range map[bool]string{
		true: "\rstep 1\x1b[K\r\x1b[Kdone\n", false: "step 1\ndone\n",
	} {
		var out bytes.Buffer
		s := New(&out, terminal, time.Hour, func(err error) { t.Error(err) })
		s.Progress("step 1")
		s.Progress("too soon")
		s.Event("done")
		s.Close()
		if out.String() != want {
			t.Errorf("terminal %t: %q, want %q", terminal, out.String(), want)
		}
	}
	failed := 0
	s := New(brokenWriter{}, false, 0, func(error) { failed++ })
	s.Event("lost")
	if failed != 1 {
		t.Errorf("told of %d failures", failed)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("closed") }
