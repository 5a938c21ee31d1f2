package main

import (
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/schema"
)

func (p program) inboxMigrate() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Usage:     "make, show and remove the tables of the inbox",
		UsageText: "relay inbox migrate up|down|status|print [flags]",
		Description: `Works in the first schema of the search_path, or in --schema, beside the tables of an outbox or without them.
Which migrations are there is recorded in the table relay_inbox_migrations. Teams with another tool take
the SQL from relay inbox migrate print.`,
		Subcommands: []*cli.Command{p.inboxMigrateUp(), p.inboxMigrateDown(), p.inboxMigrateStatus(), p.inboxMigratePrint()},
	}
}

func (p program) inboxMigrateUp() *cli.Command {
	return &cli.Command{
		Name:      "up",
		Usage:     "apply the migrations that are missing",
		UsageText: "relay inbox migrate up --database-url URL [--schema NAME] [--dry-run]",
		Description: `Creates only, and deletes nothing. Safe to run again, and by several at once. Each migration is one
transaction; a wait of more than 5 s for a lock ends it, so that it never holds up the application.

Examples:
   relay inbox migrate up --database-url postgres://owner@db:5432/billing
   relay inbox migrate up --database-url postgres://owner@db:5432/billing --schema inbox --dry-run`,
		Flags:  migrateFlags(dryRunFlag()),
		Action: p.withMigrator(schema.Inbox, p.up),
	}
}

func (p program) inboxMigrateDown() *cli.Command {
	return &cli.Command{
		Name:      "down",
		Usage:     "take migrations out again, newest first",
		UsageText: "relay inbox migrate down --database-url URL (--steps N | --all) [--dry-run] [--yes]",
		Description: `Refuses to delete rows unless --yes says so. Without its marks a consumer handles again whatever is delivered
again; and what is parked may be nowhere else.

Examples:
   relay inbox migrate down --database-url postgres://owner@db:5432/billing --steps 1 --dry-run
   relay inbox migrate down --database-url postgres://owner@db:5432/billing --all --yes`,
		Flags:  downFlags(),
		Before: checkSteps,
		Action: p.withMigrator(schema.Inbox, p.down),
	}
}

func (p program) inboxMigrateStatus() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "list the migrations, applied and pending",
		UsageText: "relay inbox migrate status --database-url URL [--schema NAME] [--output json]",
		Flags:     migrateFlags(outputFlag()),
		Action:    p.withMigrator(schema.Inbox, p.migrations),
	}
}

func (p program) inboxMigratePrint() *cli.Command {
	return &cli.Command{
		Name:      "print",
		Usage:     "print the SQL of every migration; needs no database",
		UsageText: "relay inbox migrate print [--down] > inbox.sql",
		Flags:     []cli.Flag{printDownFlag()},
		Action: func(c *cli.Context) error {
			return p.printAll(schema.Inbox.Migrations(), c.Bool("down"))
		},
	}
}
