package main

import (
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/demo"
)

// demoConsumer is the process that relay demo starts, and kills, as its consumer. It is not for people.
func (p program) demoConsumer() *cli.Command {
	return &cli.Command{
		Name:   "demo-consumer",
		Usage:  "the consumer of relay demo, which starts it",
		Hidden: true,
		Action: func(c *cli.Context) error { return demo.Bank(c.Context) },
	}
}
