package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/inboxparked"
)

func (p program) inboxParkedList() *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the parked keys: how many messages, why, since when",
		UsageText: "relay inbox parked list --database-url URL [filters] [--output json]",
		Description: `One line a key, the one parked first at the top. A message without a key waits alone; its key is shown as -.
Filters are about the first message of each, the one that holds up the rest; of several all must hold. The JSON
form is a contract, documented in docs/inbox-operations.md.

Examples:
   relay inbox parked list --database-url postgres://operator@db:5432/billing
   relay inbox parked list --consumer billing --error "no such account" --older-than 1h
   relay inbox parked list --cause crash --output json | jq -r '.keys[].error'`,
		Flags: append(append(inboxFilterFlags(), limitFlag("the first `N` at most; 0 for all", 100), outputFlag()), parkedSettings()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			filter, err := readInboxFilter(c)
			if err != nil {
				return err
			}
			return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
				list, err := inboxparked.Read(ctx, conn, filter)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeJSON(p.stdout, list)
				}
				return writeParkedKeys(p.stdout, list, filter)
			})
		},
	}
}

// writeParkedKeys prints the table and the totals.
func writeParkedKeys(to io.Writer, list inboxparked.List, filter inboxparked.Filter) error {
	if len(list.Keys) == 0 {
		text := "nothing is parked"
		if !filter.Empty() {
			text = "nothing that is parked matches"
		}
		return writeLine(to, "%s", text)
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tCAUSE\tSINCE\tAGE\tATTEMPTS\tRETRY\tERROR")
	for _, k := range list.Keys {
		retry := "-"
		if k.RequestedAt != nil {
			retry = "asked for"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", k.KeyID, name(k.Consumer), name(k.Topic), keyName(k.Name),
			k.Messages, k.Cause, second(k.Since), age(k.AgeSeconds), k.Attempts, retry, sentence(k.Error, 100))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	more := ""
	if n := list.TotalKeys - int64(len(list.Keys)); n > 0 {
		more = fmt.Sprintf("; %d more not shown (--limit)", n)
	}
	return writeLine(to, "\n%s with %s%s", counted(list.TotalKeys, "key", "keys"), counted(list.TotalMessages, "message", "messages"), more)
}
