package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"
)

// program is the binary with everything that it takes from its surroundings, so that tests can
// stand in for them.
type program struct {
	args           []string // without the name of the binary
	environ        []string
	stdout, stderr io.Writer
	terminal       bool // standard error is a terminal
	signals        <-chan os.Signal
	exit           func(status int) // ends the process at once
}

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	p := program{
		args:     os.Args[1:],
		environ:  os.Environ(),
		stdout:   os.Stdout,
		stderr:   os.Stderr,
		terminal: term.IsTerminal(int(os.Stderr.Fd())),
		signals:  signals,
		exit:     os.Exit,
	}
	os.Exit(p.main(context.Background()))
}

// main runs the command that the arguments name and returns the exit status.
func (p program) main(ctx context.Context) int {
	ctx, stop := p.untilSignal(ctx)
	defer stop()
	return p.report(p.app().RunContext(ctx, append([]string{"relay"}, laneLast(p.args)...)))
}
