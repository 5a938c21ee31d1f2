package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/inboxparked"
)

func (p program) inboxParkedRetry() *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "handle parked messages after all, in order",
		UsageText: "relay inbox parked retry (filters | --all) --why TEXT [--dry-run] [--wait DURATION] [--output json]",
		Description: `Mend the cause first: a new version of the handler, a missing row. A process of the consumer then handles each
key in order, up to the first message that fails again; what arrives meanwhile comes behind.

Waits until that is done. The exit status is 1 where a message failed again, or where not all was done within
--wait; what is not done then is done once a process of the consumer runs.

Examples:
   relay inbox parked retry --key-id 17 --why "account created, OPS-12"
   relay inbox parked retry --consumer billing --error "no such account" --dry-run
   relay inbox parked retry --all --consumer billing --why "version 1.4.2" --wait 0`,
		Flags:  inboxAskFlags("wait at most this `DURATION` until it is done, 30s unless told; 0 does not wait"),
		Action: p.inboxRetry,
	}
}

func (p program) inboxParkedDiscard() *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Usage:     "remove parked messages for good: they are never handled",
		UsageText: "relay inbox parked discard (filters | --msg-id ID | --all) --why TEXT --yes [--dry-run] [--output json]",
		Description: `With --msg-id one message goes; those behind it stay parked until a retry. Without it the whole queue of each key
goes, and later messages of the key are handled again. Marks stay: another copy of a discarded message is skipped.
Each discarded message is recorded in inbox_audit, without its payload.

Examples:
   relay inbox parked discard --msg-id 01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111 --why "test data, OPS-13" --yes
   relay inbox parked discard --key-id 17 --dry-run
   relay inbox parked discard --consumer billing --error "invalid" --why "never valid, OPS-14" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "msg-id", Usage: "only the message `ID`"},
			&cli.BoolFlag{Name: "yes", Usage: "the messages may be lost for good"},
		}, inboxAskFlags("wait at most this `DURATION` for a handler that has the key, 30s unless told")...),
		Action: p.inboxDiscard,
	}
}

func inboxAskFlags(wait string) []cli.Flag {
	flags := append(inboxFilterFlags(),
		limitFlag("of the keys that match the `N` that were parked first; 0 for all", 0),
		&cli.BoolFlag{Name: "all", Usage: "everything that is parked, where no filter is given"},
		&cli.StringFlag{Name: "why", Usage: "the reason, `TEXT` that is recorded with your login; required"},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would be done, and change nothing"},
		&cli.StringFlag{Name: "wait", Value: "30s", Usage: wait},
		outputFlag())
	return append(flags, parkedSettings()...)
}

// inboxAsk is what retry and discard are asked for.
type inboxAsk struct {
	filter inboxparked.Filter
	why    string
	dryRun bool
	wait   time.Duration
	form   output
}

func readInboxAsk(c *cli.Context) (r inboxAsk, err error) {
	r = inboxAsk{why: c.String("why"), dryRun: c.Bool("dry-run")}
	if r.form, err = parseOutput(c.String("output")); err != nil {
		return r, err
	}
	if r.filter, err = readInboxFilter(c); err != nil {
		return r, err
	}
	if r.wait, err = readDuration("wait", c.String("wait")); err != nil {
		return r, err
	}
	switch {
	case r.filter.Empty() && !c.Bool("all"):
		return r, usage("--key-id N, --consumer NAME, --error TEXT, …, or --all", "%s needs to be told which", c.Command.Name)
	case r.dryRun:
	case strings.TrimSpace(r.why) == "":
		return r, usage(`--why "account created, OPS-12"`, "--why is missing: the reason is recorded")
	}
	return r, nil
}

func (p program) inboxRetry(c *cli.Context) error {
	r, err := readInboxAsk(c)
	if err != nil {
		return err
	}
	return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
		if r.dryRun {
			asked, err := inboxparked.Plan(ctx, conn, r.filter)
			if err != nil {
				return err
			}
			return p.writeRetries(r, asked)
		}
		asked, err := inboxparked.Retry(ctx, conn, r.filter, r.why)
		if err != nil {
			return err
		}
		waited := p.awaitRetries(ctx, conn, r, asked)
		return errors.Join(p.writeRetries(r, asked), waited)
	})
}

// awaitRetries waits for what was asked, and returns an error where it was not done, or ended badly.
func (p program) awaitRetries(ctx context.Context, conn *pgx.Conn, r inboxAsk, asked []inboxparked.Asked) error {
	idle, err := inboxparked.Idle(ctx, conn, asked)
	if err != nil {
		return err
	}
	for _, consumer := range idle {
		const note = "Note: no process of consumer %s has a session, so it seems that none runs; the retry waits for one"
		if err := writeLine(p.stderr, note, name(consumer)); err != nil {
			return err
		}
	}
	if r.wait == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if err := inboxparked.Await(limited, conn, asked); err != nil && limited.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return judgeRetries(r, asked)
}

func judgeRetries(r inboxAsk, asked []inboxparked.Asked) error {
	open, failed := tallyRetries(asked)
	var faults []error
	if failed > 0 {
		faults = append(faults, hint.New("failed again: "+counted(int64(failed), "key is still parked", "keys are still parked"),
			"mend the cause first, or relay inbox parked discard; relay inbox parked show --key-id N tells the cause"))
	}
	if open > 0 {
		faults = append(faults, hint.New(fmt.Sprintf("%s not done within %v", counted(int64(open), "retry was", "retries were"), r.wait),
			"relay inbox consumers shows which processes have a session; what was asked for stands, and is done once one runs"))
	}
	return errors.Join(faults...)
}

// tallyRetries counts what is not done, and what failed again.
func tallyRetries(asked []inboxparked.Asked) (open, failed int) {
	for _, a := range asked {
		if !a.Done {
			open++
		}
		if a.FailedAgain() {
			failed++
		}
	}
	return open, failed
}

func (p program) writeRetries(r inboxAsk, asked []inboxparked.Asked) error {
	if r.form == outputText {
		return writeRetriesText(p.stdout, r, asked)
	}
	open, failed := tallyRetries(asked)
	return writeJSON(p.stdout, struct {
		DryRun      bool                `json:"dry_run"`
		Keys        []inboxparked.Asked `json:"keys"`
		Open        int                 `json:"open"`
		FailedAgain int                 `json:"failed_again"`
	}{r.dryRun, asked, open, failed})
}

func writeRetriesText(to io.Writer, r inboxAsk, asked []inboxparked.Asked) error {
	if len(asked) == 0 {
		return writeLine(to, "nothing that is parked matches")
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY_ID\tCONSUMER\tTOPIC\tKEY\tMESSAGES\tOUTCOME")
	total := int64(0)
	for _, a := range asked {
		total += a.Messages
		outcome := "open"
		switch {
		case r.dryRun:
			outcome = "would retry"
		case a.FailedAgain():
			outcome = fmt.Sprintf("failed again, %d left: %s", a.Left, sentence(a.Error, 100))
		case a.Done:
			outcome = "done"
		case a.Joined:
			outcome = "open, as it was before"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%d\t%s\n", a.KeyID, name(a.Consumer), name(a.Topic), keyName(a.Name), a.Messages, outcome)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if !r.dryRun {
		return nil
	}
	return writeLine(to, "\nwould retry %s with %s; nothing was changed", counted(int64(len(asked)), "key", "keys"),
		counted(total, "message", "messages"))
}
