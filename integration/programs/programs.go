// Package programs builds the programs that tests on real servers start and kill.
package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Variable names a folder that holds the programs already, built by integration/servers.
const Variable = "RELAY_TEST_PROGRAMS"

// Program is a command that tests start.
type Program struct {
	Name      string
	arguments []string // of go build
}

// The programs. Relay has its failpoints; Victim is a consumer with an inbox and failpoints; Poller
// is what people write instead of a relay.
var (
	Relay  = Program{"relay", []string{"-tags", "failpoint", "github.com/outbox-relay/relay/cmd/relay"}}
	Victim = Program{"victim", []string{"github.com/outbox-relay/relay/integration/victim/process"}}
	Poller = Program{"poller", []string{"github.com/outbox-relay/relay/integration/bench/poller"}}
)

// All is every program that tests without the tag bench start.
var All = []Program{Relay, Victim}

// Build builds the program into a folder and returns its path. RELAY_TEST_RACE=1 builds it with the
// race detector.
func (p Program) Build(ctx context.Context, folder string) (path string, err error) {
	path = filepath.Join(folder, p.Name)
	options := []string{"build", "-o", path}
	if os.Getenv("RELAY_TEST_RACE") == "1" {
		options = append(options, "-race")
	}
	output, err := exec.CommandContext(ctx, "go", append(options, p.arguments...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", p.Name, err, output)
	}
	return path, nil
}
