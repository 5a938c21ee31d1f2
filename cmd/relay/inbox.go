package main

import "github.com/urfave/cli/v2"

// ofInbox is what settings that the relay has too are for the commands of the inbox.
var ofInbox = map[string]string{
	"database-url": "connection string of the primary with the consumer's database; a PG* variable fills what it " +
		"leaves out",
	"schema":        "schema of the tables of the inbox; unset, the search_path of the role finds them",
	"start-timeout": "how long to wait for Postgres at the start",
}

// speakOfInbox has the help of the commands say what their settings are here.
func speakOfInbox(commands []*cli.Command) {
	for _, c := range commands {
		for _, flag := range c.Flags {
			if setting, ok := flag.(*cli.StringFlag); ok && ofInbox[setting.Name] != "" {
				setting.Usage = ofInbox[setting.Name]
			}
		}
		speakOfInbox(c.Subcommands)
	}
}

func (p program) inboxCommand() *cli.Command {
	command := &cli.Command{
		Name:      "inbox",
		Usage:     "the consumer's side: tables, parked messages, retention, replay",
		UsageText: "relay inbox COMMAND [flags]",
		Description: `These commands work on the database of a consumer, which --database-url names, and on nothing else: no Kafka,
no outbox. The consumer itself is a service of yours that imports package inbox.`,
		Subcommands: []*cli.Command{
			p.inboxMigrate(), p.inboxConsumers(), p.inboxParked(), p.inboxForget(), p.inboxClaims(), p.inboxSweep(),
		},
	}
	speakOfInbox(command.Subcommands)
	return command
}
