package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/outbox-relay/relay/internal/harness/testpg"
	"github.com/outbox-relay/relay/internal/sandbox"
)

var update = flag.Bool("update", false, "write the golden files again")

var broker *sandbox.Broker

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if broker, err = sandbox.StartBroker(context.Background(), sandbox.BrokerOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testpg.Main(m, testpg.Options{Stop: func() error { broker.Stop(); return nil }})
}

// buffer is a stream that several goroutines may write, and that tells when a text has been
// written.
type buffer struct {
	mu      sync.Mutex
	text    bytes.Buffer
	awaited map[string]chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.text.Write(p)
	for text, seen := range b.awaited {
		if strings.Contains(b.text.String(), text) {
			close(seen)
			delete(b.awaited, text)
		}
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await returns a channel that closes once text has been written.
func (b *buffer) await(text string) <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := make(chan struct{})
	if strings.Contains(b.text.String(), text) {
		close(seen)
		return seen
	}
	if b.awaited == nil {
		b.awaited = map[string]chan struct{}{}
	}
	b.awaited[text] = seen
	return seen
}

// call is one run of the program with what it left.
type call struct {
	program
	out, err *buffer
	signals  chan os.Signal
	exits    chan int // statuses of an exit at once
}

// prepare makes a program with the arguments, and nothing in the environment but env.
func prepare(env []string, args ...string) *call {
	c := &call{out: &buffer{}, err: &buffer{}, signals: make(chan os.Signal, 2), exits: make(chan int, 1)}
	c.program = program{
		args: args, environ: env, stdout: c.out, stderr: c.err, signals: c.signals,
		exit: func(status int) { c.exits <- status },
	}
	return c
}

// run calls the program and returns the exit status and both streams.
func run(t *testing.T, env []string, args ...string) (status int, out, errs string) {
	t.Helper()
	c := prepare(env, args...)
	status = c.main(t.Context())
	return status, c.out.String(), c.err.String()
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is different; go test ./cmd/relay -update writes it again\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
