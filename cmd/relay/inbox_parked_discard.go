package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/inboxparked"
)

func (p program) inboxDiscard(c *cli.Context) error {
	r, err := readInboxAsk(c)
	if err != nil {
		return err
	}
	if !r.dryRun && !c.Bool("yes") {
		return usage("--dry-run to see what would go, then --yes", "discard removes messages for good")
	}
	return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
		if r.dryRun {
			plan, err := inboxparked.PlanDiscard(ctx, conn, r.filter)
			if err != nil {
				return err
			}
			return p.writeDiscarded(r, plan)
		}
		done, err := inboxparked.Discard(ctx, conn, r.filter, r.why, r.wait)
		if err != nil && len(done) == 0 {
			return err
		}
		return errors.Join(p.writeDiscarded(r, done), err)
	})
}

func (p program) writeDiscarded(r inboxAsk, done []inboxparked.Discarded) error {
	messages := int64(0)
	for _, d := range done {
		messages += d.Messages
	}
	if r.form == outputJSON {
		return writeJSON(p.stdout, struct {
			DryRun   bool                    `json:"dry_run"`
			Keys     []inboxparked.Discarded `json:"keys"`
			Messages int64                   `json:"messages"`
		}{r.dryRun, done, messages})
	}
	return writeDiscardedText(p.stdout, r, done, messages)
}

func writeDiscardedText(to io.Writer, r inboxAsk, done []inboxparked.Discarded, messages int64) error {
	if len(done) == 0 {
		return writeLine(to, "nothing that is parked matches")
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tLEFT")
	left := int64(0)
	for _, d := range done {
		left += d.Left
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d\t%d\n", d.KeyID, name(d.Consumer), name(d.Topic), keyName(d.Name), d.Messages, d.Left)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	what := counted(messages, "message", "messages") + " of " + counted(int64(len(done)), "key", "keys")
	if r.dryRun {
		return writeLine(to, "\nwould discard %s; nothing was changed", what)
	}
	if err := writeLine(to, "\ndiscarded %s", what); err != nil || left == 0 {
		return err
	}
	return writeLine(to, "%s parked behind them; relay inbox parked retry handles them",
		counted(left, "message is still", "messages are still"))
}
