package main

import "github.com/urfave/cli/v2"

func (p program) inboxCommand() *cli.Command {
	return &cli.Command{
		Name:      "inbox",
		Usage:     "the consumer's side: tables, parked messages, retention, replay",
		UsageText: "relay inbox COMMAND [flags]",
		Description: `These commands work on the database of a consumer, which --database-url names, and on nothing else: no Kafka,
no outbox. The consumer itself is a service of yours that imports package inbox.`,
		Subcommands: []*cli.Command{
			p.inboxMigrate(), p.inboxConsumers(), p.inboxParked(), p.inboxForget(), p.inboxClaims(), p.inboxSweep(),
		},
	}
}
