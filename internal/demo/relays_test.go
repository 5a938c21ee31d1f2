package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/internal/harness/child"
	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/internal/harness/workload"
)

func testRelays(command ...string) *relays {
	return &relays{command: command, environ: os.Environ(), ledger: ledger.New[uuid.UUID](), gate: newGate(100, 4), events: func(string) {}}
}

func TestARelayIsEndedBySIGKILL(t *testing.T) {
	r := testRelays("sleep", "600")
	c, err := r.start()
	if err != nil {
		t.Fatal(err)
	}
	successor, err := r.replace(c, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if how := c.Wait(t.Context()); !child.DiedOf(how, syscall.SIGKILL) || r.count() != 1 {
		t.Errorf("ended by %v, %d kills", how, r.count())
	}
	if err := successor.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func TestARelayThatEndsByItselfIsAnErrorWithItsLog(t *testing.T) {
	c, err := testRelays("sh", "-c", "echo the lane has halted >&2; exit 3").start()
	if err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	for name, err := range map[string]error{"kill": c.Crash(), "live": c.Live(context.Background(), 1<<40), "stop": c.Stop(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the lane has halted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARelayThatIsMissingIsAnError(t *testing.T) {
	if _, err := testRelays("/does/not/exist").start(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("start: %v", err)
	}
}

func TestAwaitEndsWithTheDemo(t *testing.T) {
	r := testRelays("sleep", "600")
	c, err := r.start()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.killWhilePublishing(ctx, c, 0); !errors.Is(err, context.Canceled) || c.Alive() {
		t.Errorf("alive %v, %v", c.Alive(), err)
	}
}

func TestAMarkLiesAheadAndWithinTheOpenSlices(t *testing.T) {
	r := testRelays()
	var read []workload.Entry
	for n := range int64(10) {
		read = append(read, workload.Entry{ID: uuid.New(), Event: ledger.Event{Aggregate: "a", Version: n + 1}})
	}
	r.ledger.Arrive(read)
	for range 1000 {
		if mark := r.mark(0); mark <= 10 || mark > 50 {
			t.Fatalf("mark %d of slice 0", mark)
		}
		if mark := r.mark(2); mark <= 50 || mark > 100 {
			t.Fatalf("mark %d of slice 2", mark)
		}
	}
	r.gate = newGate(10, 4)
	if mark := r.mark(2); mark != 10 {
		t.Fatalf("mark %d where all is published", mark)
	}
}

func TestARelaysSettingsAreItsOwn(t *testing.T) {
	got := settings([]string{"PATH=/bin", "RELAY_CONFIG=/etc/relay.yaml", "RELAY_NAME=x", "PGSERVICE=y", "HOME=/root"},
		"postgres://u:p@127.0.0.1:1/demo", []string{"127.0.0.1:2", "127.0.0.1:3"})
	for _, want := range []string{"PATH=/bin", "HOME=/root", "RELAY_DATABASE_URL=postgres://u:p@127.0.0.1:1/demo",
		"RELAY_BROKERS=127.0.0.1:2,127.0.0.1:3", "RELAY_ADMIN=off", "RELAY_TOPICS_CREATE=true"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing in %q", want, got)
		}
	}
	for _, entry := range got {
		if strings.HasPrefix(entry, "PG") || strings.HasPrefix(entry, "RELAY_CONFIG") || strings.HasPrefix(entry, "RELAY_NAME") {
			t.Errorf("%s is passed on", entry)
		}
	}
}

func TestThereAreAlwaysThreeKills(t *testing.T) {
	for messages, want := range map[int]int{1: 3, 20_000: 3, 200_000: 8, MostMessages: mostKills} {
		if got := kills(messages); got != want {
			t.Errorf("%d messages: %d kills, want %d", messages, got, want)
		}
	}
}

func TestOnlyTheSignalItselfCounts(t *testing.T) {
	for name, err := range map[string]error{
		"no error": nil, "another error": errors.New("x"), "an exit status": exec.Command("sh", "-c", "exit 137").Run(),
		"another signal": exec.Command("sh", "-c", "kill -TERM $$").Run(),
	} {
		if child.DiedOf(err, syscall.SIGKILL) {
			t.Errorf("%s passes for SIGKILL", name)
		}
	}
}
