package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// interrupted is the cause of a context that a signal cancelled.
type interrupted struct{ signal os.Signal }

// Error names the signal.
func (i interrupted) Error() string { return "stopped by signal: " + i.signal.String() }

// untilSignal returns a context that the first signal cancels, with interrupted as its cause. The
// second ends the process at once with the status that a shell gives to a process which died of it.
// Call stop to end the watch.
func (p program) untilSignal(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for seen := 0; ; seen++ {
			select {
			case <-over:
				return
			case s := <-p.signals:
				if seen > 0 {
					fmt.Fprintf(p.stderr, "relay: second signal (%v): stopped at once\n", s)
					p.exit(signalStatus(s))
					return
				}
				cancel(interrupted{s})
			}
		}
	}()
	return ctx, func() {
		close(over)
		<-ended
		cancel(nil)
	}
}

// signalStatus is 128 and the number of the signal.
func signalStatus(s os.Signal) int {
	if number, ok := s.(syscall.Signal); ok {
		return 128 + int(number)
	}
	return exitFailure
}

// untilClosed returns a context that also ends when the terminal is closed. A reader of our output
// that goes away must not end the process either, as it does by default, with its servers' folder
// left behind: then writes fail, and stop is called.
func untilClosed(ctx context.Context) (_ context.Context, stop context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	hangups, pipes := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	signal.Notify(pipes, syscall.SIGPIPE) // without a receiver: a socket that is closed raises it too
	go func() {
		select {
		case s := <-hangups:
			cancel(interrupted{s})
		case <-ctx.Done():
			signal.Stop(hangups)
		}
	}()
	return ctx, cancel
}
