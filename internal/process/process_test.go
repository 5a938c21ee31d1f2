package process_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

func TestKillReapsTheChild(t *testing.T) {
	p, err := process.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Alive() {
		t.Fatal("a child that sleeps is not alive")
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if p.Alive() || p.ExitCode() != -1 {
		t.Fatalf("alive %v, exit code %d after Kill", p.Alive(), p.ExitCode())
	}
	if err := p.Kill(); err != nil {
		t.Fatalf("second Kill: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("Signal after the end: %v", err)
	}
}

func TestWaitReturnsTheExitStatusOrTheErrorOfTheContext(t *testing.T) {
	p, err := process.Start(exec.Command("sh", "-c", "exit 3"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := p.Wait(t.Context()); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Fatalf("Wait: %v, want exit status 3", err)
	}

	sleeper, err := process.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleeper.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait: %v, want a cancelled context", err)
	}
	if err := sleeper.Kill(); err != nil {
		t.Fatal(err)
	}
}

func TestAFrozenChildGoesOnAfterThaw(t *testing.T) {
	p, err := process.Start(exec.Command("sh", "-c", "kill -STOP $$; exit 7"), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for p.Alive() { // the child may not have stopped itself yet when the first SIGCONT comes
		if time.Now().After(deadline) {
			t.Fatal("the child did not go on")
		}
		if err := p.Thaw(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if p.ExitCode() != 7 {
		t.Fatalf("exit code %d, want 7", p.ExitCode())
	}
}

func TestStartOfAMissingProgramIsAnError(t *testing.T) {
	if _, err := process.Start(exec.Command("/does/not/exist"), syscall.SIGKILL); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("Start: %v, want not exist", err)
	}
}
