package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/operator"
)

func (p program) inboxForget() *cli.Command {
	return &cli.Command{
		Name:  "forget",
		Usage: "remove marks, so that a replay handles messages again on purpose",
		UsageText: "relay inbox forget --consumer NAME [--source NAME] [--from TIME] [--to TIME] [--msg-id ID] --why " +
			"TEXT --yes",
		Description: `Each message whose mark goes has its effect once more when it comes again. So look at --dry-run first; stop the
consumer; forget; set its group back with Kafka's own tool; start it. docs/inbox-operations.md has the steps.

--from and --to are about when the messages were handled: --from is in, --to is not. Marks of parked messages stay,
because a copy would pass the message that waits; so do those of effects that are claimed and not known to be
done, unless --claimed says otherwise.

Examples:
   relay inbox forget --consumer billing --source shop --from 2026-03-01T00:00:00Z --dry-run
   relay inbox forget --consumer billing --from 2026-03-01T00:00:00Z --to 2026-03-02T00:00:00Z --why "OPS-15" --yes
   relay inbox forget --consumer billing --source shop --msg-id 4711 --why "OPS-16" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "consumer", Usage: "marks of the consumer `NAME`; required"},
			&cli.StringFlag{Name: "source", Usage: "messages that the source `NAME` sent"},
			&cli.StringFlag{Name: "msg-id", Usage: "only the message `ID`"},
			&cli.StringFlag{Name: "from", Usage: "messages handled at this `TIME` or later, such as 2026-03-01T00:00:00Z"},
			&cli.StringFlag{Name: "to", Usage: "messages handled before this `TIME`"},
			&cli.BoolFlag{Name: "claimed", Usage: "also effects that are claimed and not known to be done: they may happen " +
				"twice"},
			&cli.StringFlag{Name: "why", Usage: "the reason, `TEXT` that is recorded with your login; required"},
			&cli.BoolFlag{Name: "yes", Usage: "the messages may be handled again"},
			&cli.BoolFlag{Name: "dry-run", Usage: "show what would be removed, and change nothing"},
			outputFlag(),
		}, databaseFlags()...),
		Action: p.forget,
	}
}

func readSelection(c *cli.Context) (s operator.Selection, err error) {
	s = operator.Selection{
		Consumer: c.String("consumer"), Source: c.String("source"), MsgID: c.String("msg-id"), Claimed: c.Bool("claimed"),
	}
	if err := checkTexts(s.Consumer, s.Source, s.MsgID); err != nil {
		return s, err
	}
	if s.Consumer == "" {
		return s, usage("--consumer NAME; relay inbox consumers lists them", "--consumer is missing")
	}
	if s.From, err = readTime(c, "from"); err != nil {
		return s, err
	}
	if s.To, err = readTime(c, "to"); err != nil {
		return s, err
	}
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		return s, usage("--from before --to", "between --from and --to there is no time")
	}
	return s, nil
}

// readTime reads a flag with a point in time; zero if it is not set.
func readTime(c *cli.Context, flag string) (time.Time, error) {
	if !c.IsSet(flag) {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, c.String(flag))
	if err != nil {
		return at, usage("--"+flag+" 2026-03-01T00:00:00Z, or with an offset such as +02:00", "--%s: %q is no time", flag,
			c.String(flag))
	}
	return at, nil
}

func (p program) forget(c *cli.Context) error {
	form, err := parseOutput(c.String("output"))
	if err != nil {
		return err
	}
	selection, err := readSelection(c)
	if err != nil {
		return err
	}
	dryRun, why := c.Bool("dry-run"), strings.TrimSpace(c.String("why"))
	switch {
	case dryRun:
	case why == "":
		return usage(`--why "wrong tax, OPS-15"`, "--why is missing: the reason is recorded")
	case !c.Bool("yes"):
		return usage("--dry-run to see what would go, then --yes", "forget lets messages have their effect once more")
	}
	return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
		report := forgetReport{DryRun: dryRun, Consumer: selection.Consumer}
		if report.Sources, err = operator.NewInbox(conn).PlanForget(ctx, selection); err != nil {
			return err
		}
		if err := p.noteRunning(ctx, conn, selection.Consumer); err != nil {
			return err
		}
		if !dryRun && len(report.Sources) > 0 {
			done, err := operator.NewInbox(conn).Forget(ctx, selection, report.Sources, why)
			if report.Forgotten = &done; err != nil {
				return hint.Wrap(fmt.Errorf("after %s: %w", counted(done.Marks, "mark", "marks"), err),
					"again: what is left is removed then")
			}
		}
		if form == outputJSON {
			return writeJSON(p.stdout, report)
		}
		return report.write(p.stdout)
	})
}

// noteRunning warns if a process of the consumer has a session: what it handles while marks go is
// neither here nor there.
func (p program) noteRunning(ctx context.Context, conn *pgx.Conn, consumer string) error {
	runs, err := operator.NewInbox(conn).Runs(ctx, consumer)
	if err != nil || !runs {
		return err
	}
	return writeLine(p.stderr, "Note: a process of consumer %s has a session, so it seems to run; stop it before marks go", name(consumer))
}

// forgetReport is what forget prints.
type forgetReport struct {
	DryRun    bool                `json:"dry_run"`
	Consumer  string              `json:"consumer"`
	Sources   []operator.BySource `json:"sources"`
	Forgotten *operator.Forgotten `json:"forgotten"`
}

func (r forgetReport) write(to io.Writer) error {
	if len(r.Sources) == 0 {
		return writeLine(to, "consumer %s has no such mark", name(r.Consumer))
	}
	marks := int64(0)
	err := writeTable(to, "SOURCE\tMARKS\tFIRST\tLAST\tPARKED\tCLAIMED", func(row func(...any)) {
		for _, s := range r.Sources {
			marks += s.Marks
			row(name(s.Source), s.Marks, secondOrDash(s.First), secondOrDash(s.Last), s.Parked, s.Claimed)
		}
	})
	if err != nil {
		return err
	}
	if r.Forgotten == nil {
		return writeLine(to, "\nwould forget %s of consumer %s; nothing was changed", counted(marks, "mark", "marks"), name(r.Consumer))
	}
	claims := ""
	if r.Forgotten.Claims > 0 {
		claims = " and " + counted(r.Forgotten.Claims, "claim", "claims")
	}
	return writeLine(to, "\nforgot %s%s of consumer %s (entry %d of inbox_audit)",
		counted(r.Forgotten.Marks, "mark", "marks"), claims,
		name(r.Consumer), r.Forgotten.Audit)
}
