package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

// A test that needs a parent to kill runs this test binary again, as that parent.
const parentVariable = "RELAY_PROCESS_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) != "" {
		beParent()
		return
	}
	os.Exit(m.Run())
}

// beParent starts a child, prints its process id, and waits to be killed.
func beParent() {
	p, err := process.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(p.ID())
	<-p.Done()
}

func TestAChildDiesWithItsParent(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentVariable+"=1")
	output, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatalf("read process id of the grandchild: %v", err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent printed %q", line)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Fatal("the parent was not killed")
	}
	deadline := time.Now().Add(10 * time.Second)
	for running(child) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived its parent", child)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running reports whether a process exists and is no zombie.
func running(id int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", id))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

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
