package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// programFolder holds the program that the tests run.
var programFolder string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "relay-demo-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programFolder = dir
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}

// program builds the program once and returns its path.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programFolder, "relay")
	options := []string{"build", "-o", path}
	if os.Getenv("RELAY_TEST_RACE") == "1" {
		options = append(options, "-race")
	}
	build := exec.Command("go", append(options, "github.com/outbox-relay/relay/cmd/relay")...)
	if output, err := build.CombinedOutput(); err != nil {
		return "", errors.Join(err, errors.New(string(output)))
	}
	return path, nil
})

// prepare returns the command for a demo whose servers' folders are in a folder of the test.
func prepare(t *testing.T, args ...string) (cmd *exec.Cmd, folder string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatalf("build the program: %v", err)
	}
	folder = t.TempDir()
	cmd = exec.CommandContext(t.Context(), path, append([]string{"demo"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	return cmd, folder
}

func TestDemo(t *testing.T) {
	cmd, folder := prepare(t, "--messages", "2000", "--output", "json")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, &stdout, &stderr)
	}
	lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	last := lines[len(lines)-1]
	contract := regexp.MustCompile(`^{"written":2000,"rolled_back":\d+,"published":2000,"lost":0,"duplicated":0,"reordered":0,"relay_kills":\d+,"seconds":[\d.]+,"invented":0,`)
	if !contract.MatchString(last) {
		t.Errorf("the last line is %s\n%s", last, &stderr)
	}
	var result Result
	if err := json.Unmarshal([]byte(last), &result); err != nil {
		t.Fatal(err)
	}
	if result.RelayKills < 3 || result.RolledBack == 0 || !result.Sound() {
		t.Errorf("%+v", result)
	}
	if result.Effects != 2000 || result.ConsumerKills < 3 || result.DuplicatesSent == 0 || result.DuplicatesRefused != result.DuplicatesSent {
		t.Errorf("the consumer: %+v", result)
	}
	if kills := strings.Count(stderr.String(), "ended by SIGKILL"); kills != result.RelayKills+result.ConsumerKills {
		t.Errorf("%d kills shown, %d and %d counted", kills, result.RelayKills, result.ConsumerKills)
	}
	expectNothingLeft(t, folder, stderr.String())
}

// A demo that is interrupted ends at once and leaves nothing, whatever it was about.
func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	for _, moment := range []string{"starting a throw-away Postgres", "are up", "\nkill 1:", "consumer kill 1:", "\nkill 3:"} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			cmd, folder := prepare(t, "--messages", "60000")
			output := &watched{text: moment, seen: make(chan struct{})}
			cmd.Stdout, cmd.Stderr = output, output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-output.seen:
			case <-time.After(time.Minute):
				t.Errorf("never wrote %q", moment)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Error(err)
			}
			var exit *exec.ExitError
			if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 130 {
				t.Errorf("ended with %v, want exit status 130\n%s", err, output)
			}
			expectNothingLeft(t, folder, output.String())
		})
	}
}

var childNumber = regexp.MustCompile(`(?:relay|consumer) (\d+)`)

// expectNothingLeft looks for the relays and consumers that the output names, and for what is in
// the folder for temporary files.
func expectNothingLeft(t *testing.T, folder, output string) {
	t.Helper()
	for _, match := range childNumber.FindAllStringSubmatch(output, -1) {
		id, err := strconv.Atoi(match[1])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(id, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v, want no such process", id, err)
		}
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// watched collects output and tells when a text has come.
type watched struct {
	text string
	seen chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
	told   bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.output.Write(p)
	if !w.told && strings.Contains(w.output.String(), w.text) {
		w.told = true
		close(w.seen)
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.output.String()
}

func TestARelayThatPublishesNothingLosesAll(t *testing.T) {
	result, err := Run(t.Context(), Config{Messages: 50, Relay: []string{"sleep", "600"}, Consumer: []string{"sleep", "600"}, StallAfter: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if result.Sound() || result.Lost == 0 || result.Lost != result.Written || result.EffectsLost != result.Written || !result.stalled {
		t.Errorf("%+v", result)
	}
}

func TestARelayThatFailsEndsTheDemo(t *testing.T) {
	_, err := Run(t.Context(), Config{Messages: 50, Relay: []string{"sh", "-c", "echo no such setting; exit 2"}, Consumer: []string{"sleep", "600"}})
	if err == nil || !strings.Contains(err.Error(), "no such setting") {
		t.Errorf("Run: %v", err)
	}
}

func TestAConsumerThatFailsEndsTheDemo(t *testing.T) {
	_, err := Run(t.Context(), Config{Messages: 50, Relay: []string{"sleep", "600"}, Consumer: []string{"sh", "-c", "echo no such table; exit 2"}})
	if err == nil || !strings.Contains(err.Error(), "no such table") {
		t.Errorf("Run: %v", err)
	}
}

func TestACancelledRunReturnsTheCause(t *testing.T) {
	cause := errors.New("stopped by the test")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := Run(ctx, Config{}); !errors.Is(err, cause) {
		t.Errorf("Run: %v", err)
	}
}

func TestAConfigOutOfRangeIsRefused(t *testing.T) {
	for _, c := range []Config{{Messages: -1}, {Messages: MostMessages + 1}, {Writers: -1}, {Writers: 65}} {
		if _, err := Run(t.Context(), c); err == nil {
			t.Errorf("%+v passes", c)
		}
	}
}
