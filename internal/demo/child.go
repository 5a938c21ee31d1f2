package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

// drainTimeout is how long a child may take to end in order.
const drainTimeout = 30 * time.Second

// child is a relay, or a consumer with an inbox.
type child struct {
	what    string // relay or consumer
	process *process.Process
	log     *tail
	found   int // what it found done when it started: messages published, or effects
}

// startChild runs a command. It dies with us, whatever becomes of us.
func startChild(what string, command, environ []string, found int) (*child, error) {
	output, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a %s: %w", what, err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = environ
	cmd.Stdout, cmd.Stderr = input, input
	p, err := process.Start(cmd, syscall.SIGKILL)
	if closeErr := input.Close(); err == nil && closeErr != nil {
		err = errors.Join(closeErr, p.Kill())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a %s: %w", what, err), output.Close())
	}
	return &child{what: what, process: p, log: follow(output), found: found}, nil
}

// ownEnviron is our environment without what would configure a relay or a Postgres client otherwise.
func ownEnviron(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, "RELAY_") || strings.HasPrefix(entry, "PG")
	})
}

// live waits for d, in which the relay must not end by itself.
func (c *child) live(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-c.process.Done():
		return c.endedByItself()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends the child with SIGKILL, and is an error where it ended of something else.
func (c *child) kill() error {
	if err := c.process.Kill(); err != nil {
		return err
	}
	if how := c.process.Wait(context.Background()); !diedOf(how, syscall.SIGKILL) {
		return c.endedByItself()
	}
	return nil
}

// end kills the child where it runs still; nil is one that was never started.
func (c *child) end() error {
	if c == nil || !c.process.Alive() {
		return nil
	}
	return c.process.Kill()
}

// stop lets the child finish what it has begun and end in order.
func (c *child) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := c.process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, c.process.Kill())
	}
	err := c.process.Wait(ctx)
	switch {
	case ctx.Err() != nil:
		return errors.Join(fmt.Errorf("stop the last %s: %w%s", c.what, err, c.log.quote()), c.process.Kill())
	case err != nil && !diedOf(err, syscall.SIGTERM): // SIGTERM found it before it watched for it
		return fmt.Errorf("stop the last %s: %w%s", c.what, err, c.log.quote())
	}
	return nil
}

func (c *child) endedByItself() error {
	return fmt.Errorf("%s %d ended by itself: %w%s", c.what, c.process.ID(), c.process.Wait(context.Background()), c.log.quote())
}

// diedOf reports whether err, of Wait, says that the signal ended the process.
func diedOf(err error, signal syscall.Signal) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}

// tail keeps the last lines that a child wrote.
type tail struct {
	done chan struct{} // closed at the end of the output

	mu    sync.Mutex
	lines []string
}

const tailLines = 12

// follow reads lines until the other end is closed, which the death of the child does.
func follow(output io.ReadCloser) *tail {
	t := &tail{done: make(chan struct{})}
	go func() {
		defer close(t.done)
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			t.add(lines.Text())
		}
		if err := lines.Err(); err != nil {
			t.add(fmt.Sprintf("(the rest of the log cannot be read: %v)", err))
		}
		_ = output.Close() // read only
	}()
	return t
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, line)
}

// quote waits for the end of the output and returns its last lines, for an error.
func (t *tail) quote() string {
	<-t.done
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return "; it wrote no log"
	}
	return "; the end of its log:\n  " + strings.Join(t.lines, "\n  ")
}
