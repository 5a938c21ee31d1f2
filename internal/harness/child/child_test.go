package child

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func shell(t *testing.T, script, ready string) *Child {
	t.Helper()
	c, err := Start("relay", exec.Command("sh", "-c", script), ready)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.End(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestReadyIsToldOnceTheTextWasWritten(t *testing.T) {
	c := shell(t, "echo early; echo the lane is taken >&2; exec sleep 600", "lane is taken")
	<-c.Ready()
	if err := c.Crash(); err != nil {
		t.Error(err)
	}
	if how := c.Wait(t.Context()); !DiedOf(how, syscall.SIGKILL) || DiedOf(how, syscall.SIGTERM) {
		t.Errorf("it died of %v", how)
	}
}

func TestADeathThatNobodyAskedForIsAnErrorWithTheEndOfTheLog(t *testing.T) {
	c := shell(t, "for i in $(seq 20); do echo line $i; done; exit 3", "")
	<-c.Done()
	for name, err := range map[string]error{
		"crash": c.Crash(), "live": c.Live(t.Context(), time.Hour), "stop": c.Stop(t.Context()), "failed": c.Failed(errors.New("exit status 3")),
	} {
		if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.HasSuffix(err.Error(), "\n  line 19\n  line 20") ||
			strings.Contains(err.Error(), "line 8\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnOrderlyEndIsNoError(t *testing.T) {
	c := shell(t, "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done", "up")
	<-c.Ready()
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLiveEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := shell(t, "exec sleep 600", "").Live(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestTheEnvironmentConfiguresNoRelayAndNoPostgres(t *testing.T) {
	got := Environ([]string{"HOME=/", "RELAY_BROKERS=x", "PGHOST=x", "PATH=/bin"})
	if !slices.Equal(got, []string{"HOME=/", "PATH=/bin"}) {
		t.Errorf("got %q", got)
	}
}
