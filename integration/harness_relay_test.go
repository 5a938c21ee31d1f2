package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/process"
	"github.com/outbox-relay/relay/internal/scratch"
)

// relayBinary builds the command once a run, with the failpoints in it, and returns its path.
func relayBinary(t testing.TB) string {
	t.Helper()
	return builtBinary(t, "relay", &shared.binary, "-tags", "failpoint", "../cmd/relay")
}

// builtBinary builds a command once a run, and returns its path. RELAY_TEST_RACE=1 builds it with the race detector.
func builtBinary(t testing.TB, name string, path *string, arguments ...string) string {
	t.Helper()
	err := shared.once(name, func() (err error) {
		if shared.binaryDir == nil {
			if shared.binaryDir, err = scratch.New("", "relay-binary-"); err != nil {
				return err
			}
		}
		*path = filepath.Join(shared.binaryDir.Path, name)
		options := []string{"build", "-o", *path}
		if os.Getenv("RELAY_TEST_RACE") == "1" {
			options = append(options, "-race")
		}
		build := exec.Command("go", append(options, arguments...)...)
		if output, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return *path
}

// relayProcess is a running command, relay or another.
type relayProcess struct {
	*process.Process
	t      testing.TB
	stdout string // file
	stderr string // file
}

// startRelay starts the command with arguments, such as "run", and with additions to the environment, NAME=value each. It
// is killed when the test ends, and what it wrote is logged if the test has failed.
func startRelay(t testing.TB, environment []string, arguments ...string) *relayProcess {
	t.Helper()
	return startCommand(t, relayBinary(t), environment, arguments...)
}

// startCommand does the same for any binary.
func startCommand(t testing.TB, binary string, environment []string, arguments ...string) *relayProcess {
	t.Helper()
	dir := t.TempDir()
	r := &relayProcess{t: t, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr")}
	cmd := exec.Command(binary, arguments...)
	cmd.Env = append(os.Environ(), environment...)
	stdout, err := os.Create(r.stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdout.Close() }() // written by the child only
	stderr, err := os.Create(r.stderr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stderr.Close() }() // written by the child only
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if r.Process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Process.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s %q wrote to stdout:\n%s\nand to stderr:\n%s", filepath.Base(binary), arguments, tail(r.Stdout()), tail(r.Stderr()))
		}
	})
	return r
}

// tail keeps the end of what may be long.
func tail(output []byte) []byte {
	const most = 16 << 10
	return output[max(0, len(output)-most):]
}

// Stdout is what the process has written so far.
func (r *relayProcess) Stdout() []byte { return r.read(r.stdout) }

// Stderr is what the process has written so far, its log included.
func (r *relayProcess) Stderr() []byte { return r.read(r.stderr) }

func (r *relayProcess) read(file string) []byte {
	output, err := os.ReadFile(file)
	if err != nil {
		r.t.Errorf("read the output of relay: %v", err)
	}
	return output
}

// AwaitLog waits until the process has written text to stderr.
func (r *relayProcess) AwaitLog(timeout time.Duration, text string) {
	r.t.Helper()
	eventually(r.t, timeout, fmt.Sprintf("relay writes %q", text), func() bool {
		if bytes.Contains(r.Stderr(), []byte(text)) {
			return true
		}
		if !r.Alive() {
			r.t.Fatalf("relay ended with status %d before it wrote %q", r.ExitCode(), text)
		}
		return false
	})
}

// Kill ends the process with SIGKILL and waits until it has ended.
func (r *relayProcess) Kill() {
	r.t.Helper()
	if err := r.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
}

// Pause stops the process with SIGSTOP.
func (r *relayProcess) Pause() {
	r.t.Helper()
	if err := r.Freeze(); err != nil {
		r.t.Fatal(err)
	}
}

// Resume lets a paused process go on.
func (r *relayProcess) Resume() {
	r.t.Helper()
	if err := r.Thaw(); err != nil {
		r.t.Fatal(err)
	}
}

// Terminate sends SIGTERM and does not wait.
func (r *relayProcess) Terminate() {
	r.t.Helper()
	if err := r.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
}

// Wait waits until the process has ended and returns its exit status, -1 where a signal ended it. It fails the test if the
// process does not end in time.
func (r *relayProcess) Wait(timeout time.Duration) int {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	select {
	case <-r.Done():
		return r.ExitCode()
	case <-ctx.Done():
		r.t.Fatalf("relay has not ended after %v", timeout)
		return 0
	}
}
