package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// theatre is what only the demo needs: a downloader of Postgres and a simulated broker.
var theatre = []string{
	"github.com/fergusstrange/embedded-postgres",
	"github.com/twmb/franz-go/pkg/kfake",
	"github.com/outbox-relay/relay/internal/sandbox",
	"github.com/outbox-relay/relay/internal/demo",
}

func dependencies(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", append([]string{"list", "-deps"}, append(args, ".")...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

func TestAReleaseHasNoServersOfTheDemo(t *testing.T) {
	t.Parallel()
	clone, release := dependencies(t), dependencies(t, "-tags", "release")
	for _, path := range theatre {
		if !slices.Contains(clone, path) {
			t.Errorf("the command of a clone does not import %s any more: look for what took its place", path)
		}
		if slices.Contains(release, path) {
			t.Errorf("a release imports %s", path)
		}
	}
}

func TestAReleaseSaysWhereTheDemoIs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "relay")
	if out, err := exec.Command("go", "build", "-tags", "release", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command(path, "demo").CombinedOutput()
	failed := (*exec.ExitError)(nil)
	if !errors.As(err, &failed) || failed.ExitCode() != exitFailure || !strings.Contains(string(out), "Try: go run ./cmd/relay demo") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := exec.Command(path, "bench", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "relay bench --database-url") {
		t.Errorf("relay bench, which works on servers of yours: %v: %s", err, out)
	}
}
