package demo

import (
	"os/exec"

	"github.com/outbox-relay/relay/internal/harness/child"
)

// running is a relay, or a consumer with an inbox, as a child process.
type running struct {
	*child.Child
	found int // what was done when it started: messages published, or effects
}

// run starts a command with an environment.
func run(what string, command, environ []string, found int) (*running, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = environ
	c, err := child.Start(what, cmd, "")
	if err != nil {
		return nil, err
	}
	return &running{c, found}, nil
}

// end kills the child if it still runs; nil is one that was never started.
func (r *running) end() error {
	if r == nil {
		return nil
	}
	return r.End()
}
