package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// Process is a running child, or one that has ended.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// Start starts cmd in its own process group. When this process dies, onParentDeath is sent to
// the child, on Linux. Every output of cmd should be nil or an *os.File: with anything else, a
// grandchild that holds the pipe open keeps the child from being reported as ended. The credential
// in cmd.SysProcAttr is kept; the rest of SysProcAttr is set here.
func Start(cmd *exec.Cmd, onParentDeath syscall.Signal) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		release := tieToParent(cmd.SysProcAttr, onParentDeath)
		defer release()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("start %s: %w", cmd.Path, err)
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// ID is the process id. It may belong to somebody else once Done is closed.
func (p *Process) ID() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive reports whether the child has not been reaped yet.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Wait waits until the child has ended and returns how, as exec.Cmd.Wait does, or the error of ctx.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.cmd.Path, ctx.Err())
	}
}

// ExitCode is the exit status of a child that has ended, or -1 if a signal ended it.
func (p *Process) ExitCode() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends a signal to the child, not to its group. It is no error that the child has ended.
func (p *Process) Signal(signal os.Signal) error {
	if !p.Alive() {
		return nil
	}
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Kill sends SIGKILL to the child's process group and waits until the child has been reaped.
func (p *Process) Kill() error {
	if p.Alive() {
		if err := killGroup(p.cmd.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill %s: %w", p.cmd.Path, err)
		}
	}
	<-p.done
	return nil
}
