// Command servers starts what the rooms of integration/ share, runs commands beside each other, and
// stops it again:
//
//	go run ./integration/servers -- go test ./integration/... -- go test ./inbox/...
//
// The commands find a Kafka in RELAY_TEST_BROKERS, and the programs that tests start in
// RELAY_TEST_PROGRAMS. Without these variables the tests of each package start and build their own.
// It ends with the highest exit status of the commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/programs"
	"github.com/outbox-relay/relay/internal/scratch"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status, err := run(ctx, commands(os.Args[1:]))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

// commands cuts arguments at each "--".
func commands(arguments []string) (all [][]string) {
	for len(arguments) > 0 {
		end := slices.Index(arguments, "--")
		if end < 0 {
			end = len(arguments)
		}
		if end > 0 {
			all = append(all, arguments[:end])
		}
		arguments = arguments[min(end+1, len(arguments)):]
	}
	return all
}

func run(ctx context.Context, commands [][]string) (status int, err error) {
	if len(commands) == 0 {
		return 2, errors.New("name the commands to run, each after --")
	}
	folder, err := scratch.New("", "relay-programs-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, folder.Remove()) }()
	environment := []string{programs.Variable + "=" + folder.Path}
	if os.Getenv(cluster.Variable) == "" {
		kafka, err := cluster.Start(ctx, cluster.Options{Properties: cluster.ShortSessions})
		if err != nil {
			return 1, err
		}
		defer func() { err = errors.Join(err, kafka.Stop()) }()
		environment = append(environment, cluster.Variable+"="+strings.Join(kafka.Bootstrap, ","))
	}
	for _, p := range programs.All {
		if _, err := p.Build(ctx, folder.Path); err != nil {
			return 1, err
		}
	}
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, command := range commands {
		running.Go(func() {
			ended := execute(ctx, command, environment)
			mu.Lock()
			defer mu.Unlock()
			status = max(status, ended)
		})
	}
	running.Wait()
	return status, nil
}

// execute runs a command to its end and returns its exit status. It is asked to end if ctx ends.
func execute(ctx context.Context, command, environment []string) int {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintf(os.Stderr, "servers: run %s: %v\n", command[0], err)
		return 1
	}
	return max(cmd.ProcessState.ExitCode(), 0) + signalled(cmd.ProcessState)
}

// signalled is 1 if a signal ended the command, which has no exit status then.
func signalled(state *os.ProcessState) int {
	if state.ExitCode() < 0 {
		return 1
	}
	return 0
}
