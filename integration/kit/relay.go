package kit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outbox-relay/relay/integration/programs"
	"github.com/outbox-relay/relay/internal/harness/child"
	"github.com/outbox-relay/relay/internal/scratch"
)

var (
	sharedRelay  = built(programs.Relay)
	sharedVictim = built(programs.Victim)
	sharedPoller = built(programs.Poller)
)

// RelayBinary is the path of the command, with the failpoints in it. It is built once a run.
func RelayBinary(t testing.TB) string {
	t.Helper()
	return path(t, sharedRelay)
}

// VictimBinary is the path of a consumer that tests kill. It is built once a run.
func VictimBinary(t testing.TB) string {
	t.Helper()
	return path(t, sharedVictim)
}

// PollerBinary is the path of the relay that people write themselves. It is built once a run.
func PollerBinary(t testing.TB) string {
	t.Helper()
	return path(t, sharedPoller)
}

func path(t testing.TB, program func() (string, error)) string {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func built(program programs.Program) func() (path string, err error) {
	return Share(func() (path string, remove func() error, err error) {
		if folder := os.Getenv(programs.Variable); folder != "" {
			return filepath.Join(folder, program.Name), func() error { return nil }, nil
		}
		folder, err := scratch.New("", "relay-binary-")
		if err != nil {
			return "", nil, err
		}
		if path, err = program.Build(context.Background(), folder.Path); err != nil {
			return "", nil, errors.Join(err, folder.Remove())
		}
		return path, folder.Remove, nil
	})
}

// RelayProcess is a running command, relay or another.
type RelayProcess struct {
	*child.Child
	T      testing.TB
	stdout string // file
	stderr string // file
}

// StartRelay starts the command with arguments, such as "run", and with additions to the
// environment, NAME=value each. It is killed when the test ends, and what it wrote is logged if the
// test has failed.
func StartRelay(t testing.TB, environment []string, arguments ...string) *RelayProcess {
	t.Helper()
	return StartCommand(t, RelayBinary(t), environment, arguments...)
}

// StartCommand does the same for any binary.
func StartCommand(t testing.TB, binary string, environment []string, arguments ...string) *RelayProcess {
	t.Helper()
	dir := t.TempDir()
	r := &RelayProcess{T: t, stdout: filepath.Join(dir, "stdout"), stderr: filepath.Join(dir, "stderr")}
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
	if r.Child, err = child.Start(filepath.Base(binary), cmd, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Child.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() && KeepDir() != "" {
			name := filepath.Join(KeepDir(), fmt.Sprintf("relay-%d.log", r.ID()))
			if err := os.WriteFile(name, r.Stderr(), 0o600); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("%s %q wrote to stdout:\n%s\nand to stderr:\n%s", filepath.Base(binary), arguments, Tail(r.Stdout()), Tail(r.Stderr()))
		}
	})
	return r
}

// Tail keeps the end of what may be long.
func Tail(output []byte) []byte {
	const most = 16 << 10
	return output[max(0, len(output)-most):]
}

// Stdout is what the process has written so far.
func (r *RelayProcess) Stdout() []byte { return r.read(r.stdout) }

// Stderr is what the process has written so far, its log included.
func (r *RelayProcess) Stderr() []byte { return r.read(r.stderr) }

func (r *RelayProcess) read(file string) []byte {
	output, err := os.ReadFile(file)
	if err != nil {
		r.T.Errorf("read the output of relay: %v", err)
	}
	return output
}

// AwaitLog waits until the process has written text to stderr.
func (r *RelayProcess) AwaitLog(timeout time.Duration, text string) {
	r.T.Helper()
	Eventually(r.T, timeout, fmt.Sprintf("relay writes %q", text), func() bool {
		if bytes.Contains(r.Stderr(), []byte(text)) {
			return true
		}
		if !r.Alive() {
			r.T.Fatalf("relay ended with status %d before it wrote %q", r.ExitCode(), text)
		}
		return false
	})
}

// Kill ends the process with SIGKILL and waits until it has ended.
func (r *RelayProcess) Kill() {
	r.T.Helper()
	if err := r.Child.Kill(); err != nil {
		r.T.Fatal(err)
	}
}

// Pause stops the process with SIGSTOP.
func (r *RelayProcess) Pause() {
	r.T.Helper()
	if err := r.Freeze(); err != nil {
		r.T.Fatal(err)
	}
}

// Resume lets a paused process go on.
func (r *RelayProcess) Resume() {
	r.T.Helper()
	if err := r.Thaw(); err != nil {
		r.T.Fatal(err)
	}
}

// Terminate sends SIGTERM and does not wait.
func (r *RelayProcess) Terminate() {
	r.T.Helper()
	if err := r.Signal(syscall.SIGTERM); err != nil {
		r.T.Fatal(err)
	}
}

// Wait waits until the process has ended and returns its exit status, -1 if a signal ended it. It
// fails the test if the process does not end in time.
func (r *RelayProcess) Wait(timeout time.Duration) int {
	r.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	select {
	case <-r.Done():
		return r.ExitCode()
	case <-ctx.Done():
		r.T.Fatalf("relay has not ended after %v", timeout)
		return 0
	}
}
