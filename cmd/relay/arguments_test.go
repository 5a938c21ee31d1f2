package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestHelpTexts(t *testing.T) {
	var visit func(words []string, commands []*cli.Command)
	visit = func(words []string, commands []*cli.Command) {
		name := strings.Join(append([]string{"help"}, words...), "-")
		status, out, errs := run(t, nil, append(words, "--help")...)
		if status != exitOK || errs != "" {
			t.Errorf("%s: exit status %d, %s", name, status, errs)
		}
		golden(t, name, out)
		for _, c := range commands {
			if c.Hidden { // run by another command, never by a person
				continue
			}
			visit(append(append([]string{}, words...), c.Name), c.Subcommands)
		}
	}
	visit(nil, program{}.commands())
}

func TestHelpTextsAreNoWiderThanAWindow(t *testing.T) {
	files, err := filepath.Glob("testdata/help*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no help texts: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if len([]rune(line)) > 120 {
				t.Errorf("%s:%d has more than 120 characters", file, i+1)
			}
		}
	}
}

func TestRelayAloneAndMigrateAlonePrintTheirHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"migrate"}} {
		status, out, errs := run(t, nil, args...)
		if status != exitOK || !strings.Contains(out, "COMMANDS:") || errs != "" {
			t.Errorf("%q: exit status %d\n%s%s", args, status, out, errs)
		}
	}
}

// TestFaultsOfArgumentsAndConfiguration shows each of them in one golden file, as a person sees
// them.
func TestFaultsOfArgumentsAndConfiguration(t *testing.T) {
	t.Chdir(t.TempDir()) // so that paths in messages are the same everywhere
	for name, text := range map[string]string{
		"broken.yaml":  "topics: [",
		"unknown.yaml": "topics:\n  creat: true\nbatch: {rows: -5}\nlog: debug\nname:\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("folder", 0o755); err != nil {
		t.Fatal(err)
	}
	required := []string{"RELAY_DATABASE_URL=postgres://relay:hunter2@db/app", "RELAY_BROKERS=kafka:9092"}
	calls := []struct {
		env  []string
		args string
	}{
		{nil, "bogus"},
		{nil, "statu"},
		{nil, "--bogus"},
		{nil, "run"},
		{nil, "status"},
		{nil, "migrate up"},
		{nil, "migrate upp"},
		{nil, "migrate --x"},
		{required, "run extra"},
		{required, "status --output json extra"},
		{required, "run --topics-creat"},
		{required, "run --topics-create=maybe"},
		{required, "run --name"},
		{required, "run --batch-rows -5 --poll-min -1s --topics-partitions -1 --drain-timeout 0s --batch-bytes -1MiB"},
		{required, "run --compression rar --partitioner dice --admin nonsense --route {colour} --brokers kafka"},
		{required, "run --config folder"},
		{required, "run --config absent.yaml"},
		{required, "run --config broken.yaml"},
		{required, "run --config unknown.yaml"},
		{append(required, "RELAY_TOPICS_CREAT=true", "RELAY_FROBNICATE=1"), "run"},
		{append(required, "RELAY_POLL_MIN=soon"), "run"},
		{nil, "run --brokers kafka:9092 --database-url postgres://relay:hunter2/x@db/app"},
		{nil, "run --brokers kafka:9092 --database-url db.example.org"},
		{required, "migrate down"},
		{required, "migrate down --steps 1 --all"},
		{required, "migrate down --steps -1"},
		{required, "migrate down --steps x"},
		{required, "status --output yaml"},
		{nil, "version --output yaml"},
		{required, "parked lst"},
		{nil, "parked list"},
		{required, "parked list --aggregate order"},
		{required, "parked list --aggregate order/1 --aggregate-id 1"},
		{required, "parked list --cause poison"},
		{required, "parked list --older-than soon"},
		{required, "parked list --limit -1"},
		{required, "parked list --output yaml"},
		{required, "parked show"},
		{required, "parked show --aggregate order/1 --msg-id 1"},
		{required, "parked show --aggregate order/1 --msg-id 01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111"},
		{required, "parked show --aggregate order/1 --payload --output json"},
		{required, "parked retry"},
		{required, "parked retry --limit 3 --why x"},
		{required, "parked retry --all"},
		{required, "parked retry --all --why x --wait soon"},
		{required, "parked retry --msg-id 01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111 --why x"},
		{required, "parked discard --all"},
		{required, "parked discard --all --why x"},
		{required, "recover"},
		{required, "recover billing"},
		{required, "recover outbox extra"},
		{required, "recover --choose kafka outbox --yes"},
		{required, "recover outbox --yes"},
		{required, "recover outbox --choose guess"},
		{required, "recover outbox --choose restart-from --yes"},
		{required, "recover outbox --choose kafka --from 7"},
		{required, "recover outbox --from yesterday"},
		{required, "recover outbox --choose kafka --scan --yes"},
		{nil, "bench"},
		{nil, "bench --database-url postgres://relay@db/app"},
		{nil, "bench inser"},
		{nil, "bench insert"},
		{required, "bench --output yaml"},
		{required, "bench --rows 5 --size 1 --rate 2000,fast"},
		{required, "bench --rows 5 --size 1 --batch 0"},
		{required, "bench insert --writers 0 --seconds 0"},
	}
	var all strings.Builder
	for _, c := range calls {
		status, out, errs := run(t, c.env, strings.Fields(c.args)...)
		if status != exitUsage || out != "" {
			t.Errorf("relay %s: exit status %d, want %d; standard output: %s", c.args, status, exitUsage, out)
		}
		if !strings.HasPrefix(errs, "Error: ") || strings.Contains(errs, "hunter2") || strings.Contains(errs, "goroutine") {
			t.Errorf("relay %s: %s", c.args, errs)
		}
		fmt.Fprintf(&all, "$ relay %s\n%s\n", c.args, errs)
	}
	t.Chdir(sourceFolder)
	golden(t, "faults", all.String())
}

// sourceFolder is where the tests were started.
var sourceFolder = func() string {
	folder, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return folder
}()

func TestVersion(t *testing.T) {
	status, out, _ := run(t, nil, "version")
	if status != exitOK || !strings.HasPrefix(out, "relay ") || !strings.Contains(out, "go1.") {
		t.Errorf("exit status %d: %s", status, out)
	}
	if _, flag, _ := run(t, nil, "--version"); flag != out {
		t.Errorf("--version says %q, version says %q", flag, out)
	}
	status, out, _ = run(t, nil, "version", "--output", "json")
	var b build
	if err := json.Unmarshal([]byte(out), &b); status != exitOK || err != nil || b.Version == "" || b.Go == "" {
		t.Errorf("exit status %d: %s (%v)", status, out, err)
	}
}
