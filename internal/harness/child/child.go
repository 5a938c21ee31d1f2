package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

// drainTimeout is how long a child may take to end in order.
const drainTimeout = 30 * time.Second

// Child is a running program.
type Child struct {
	*process.Process
	what string
	log  *tail // nil if its output is not read
}

// Start runs a command, whose output it reads. What names the program in errors: "relay". Ready is
// closed once the child writes a line with the text ready; "" is never written. A command whose
// Stdout or Stderr is set writes there: nothing is read, and errors do not quote it.
func Start(what string, cmd *exec.Cmd, ready string) (*Child, error) {
	if cmd.Stdout != nil || cmd.Stderr != nil {
		p, err := process.Start(cmd, syscall.SIGKILL)
		if err != nil {
			return nil, fmt.Errorf("start a %s: %w", what, err)
		}
		return &Child{Process: p, what: what}, nil
	}
	output, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a %s: %w", what, err)
	}
	cmd.Stdout, cmd.Stderr = input, input
	p, err := process.Start(cmd, syscall.SIGKILL)
	if closeErr := input.Close(); err == nil && closeErr != nil {
		err = errors.Join(closeErr, p.Kill())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a %s: %w", what, err), output.Close())
	}
	return &Child{Process: p, what: what, log: follow(output, ready)}, nil
}

// Environ is an environment without what would configure a relay or a Postgres client otherwise.
func Environ(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, "RELAY_") || strings.HasPrefix(entry, "PG")
	})
}

// Ready is closed once the child has written the text that Start was given.
func (c *Child) Ready() <-chan struct{} { return c.log.ready }

// Live waits for d, in which the child must not end by itself.
func (c *Child) Live(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-c.Done():
		return c.EndedByItself()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Crash ends the child with SIGKILL. It is an error if the child ended of something else.
func (c *Child) Crash() error {
	if err := c.Kill(); err != nil {
		return err
	}
	if how := c.Wait(context.Background()); !DiedOf(how, syscall.SIGKILL) {
		return c.EndedByItself()
	}
	return nil
}

// End kills the child if it still runs.
func (c *Child) End() error {
	if !c.Alive() {
		return nil
	}
	return c.Kill()
}

// Stop lets the child finish what it has begun and end in order.
func (c *Child) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if err := c.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, c.Kill())
	}
	err := c.Wait(ctx)
	switch {
	case ctx.Err() != nil:
		return errors.Join(fmt.Errorf("stop the %s: %w%s", c.what, err, c.log.quote()), c.Kill())
	case err != nil && !DiedOf(err, syscall.SIGTERM): // SIGTERM found it before it watched for it
		return fmt.Errorf("stop the %s: %w%s", c.what, err, c.log.quote())
	}
	return nil
}

// EndedByItself is the error for a child that has ended and should not have: how it ended, and the
// end of its log.
func (c *Child) EndedByItself() error {
	return fmt.Errorf("%s %d ended by itself: %w%s", c.what, c.ID(), c.how(), c.log.quote())
}

func (c *Child) how() error {
	if err := c.Wait(context.Background()); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// Failed kills the child and adds the end of its log to an error.
func (c *Child) Failed(err error) error {
	return fmt.Errorf("%w%s", err, c.quoteAfter(c.Kill))
}

func (c *Child) quoteAfter(end func() error) string {
	if err := end(); err != nil {
		return "; " + err.Error()
	}
	return c.log.quote()
}

// DiedOf reports whether err, of Wait, says that the signal ended the process.
func DiedOf(err error, signal syscall.Signal) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}
