//go:build !release

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/demo"
)

// demoCommands are relay demo, and the process that it starts, and kills, as its consumer; that one
// is not for people.
func (p program) demoCommands() []*cli.Command {
	return []*cli.Command{p.demoCommand(), {
		Name:   "demo-consumer",
		Usage:  "the consumer of relay demo, which starts it",
		Hidden: true,
		Action: func(c *cli.Context) error { return demo.Bank(c.Context) },
	}}
}

func (p program) demoCommand() *cli.Command {
	return &cli.Command{
		Name:      "demo",
		Usage:     "show it all on its own servers: writers, kills, and a count of what arrived",
		UsageText: "relay demo [--messages N] [--output json]",
		Description: `Needs no server and no configuration. It starts a throw-away Postgres (an installed one, or one that is
fetched once and cached) and a Kafka broker simulated in this process. Many writers commit and roll back
business transactions, the relay is killed again and again while it publishes, and a consumer counts
what was lost, duplicated or reordered. Another consumer moves money between accounts through the inbox; it is
killed too, some messages are sent to it again on purpose, and what it booked is compared with the outbox.
Ctrl-C stops it all; no process and no folder stays behind.

The exit status is 0 if nothing was lost, duplicated, reordered or invented, neither among the messages nor among
their effects, and 1 if something was.
With --output json the last line of standard output is the result, and progress goes to standard error.

Examples:
   relay demo
   relay demo --messages 200000 --output json`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "messages", Aliases: []string{"n"}, Value: 20_000,
				Usage: fmt.Sprintf("`N` messages to commit, from 1 to %d; unset, 20000", demo.MostMessages)},
			outputFlag(),
		},
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			n := c.Int("messages")
			if n < 1 || n > demo.MostMessages {
				return usage("--messages 20000", "--messages: %d is not between 1 and %d", n, demo.MostMessages)
			}
			return p.demo(c.Context, n, form)
		},
	}
}

// errUnsound ends a demo that found what must not be; the verdict has said what.
var errUnsound = errors.New("messages, or their effects, were lost, duplicated, reordered or invented")

func (p program) demo(ctx context.Context, messages int, form output) error {
	ctx, stop := untilClosed(ctx)
	defer stop(nil)
	progress := p.stdout
	if form == outputJSON {
		progress = p.stderr
	}
	screen := demo.NewScreen(progress, isTerminal(progress), stop)
	result, err := demo.Run(ctx, demo.Config{Messages: messages, View: screen})
	screen.Close()
	if err != nil {
		return orSignal(ctx, err)
	}
	if form == outputJSON {
		err = json.NewEncoder(p.stdout).Encode(result)
	} else {
		_, err = io.WriteString(p.stdout, "\n"+result.Verdict())
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if !result.Sound() {
		return errUnsound
	}
	return nil
}
