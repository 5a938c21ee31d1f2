package main

import (
	"context"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/operator"
)

func (p program) inboxClaims() *cli.Command {
	return &cli.Command{
		Name:      "claims",
		Usage:     "effects at most once of which it is unknown whether they happened",
		UsageText: "relay inbox claims list|settle [flags]",
		Description: `An effect that no database rolls back, such as an e-mail, is claimed before it begins. A claim that stays is a
question to a person: the process ended, or the handler failed, and the effect may have happened. It is never run
again by itself. These commands need the role inbox_operator.`,
		Subcommands: []*cli.Command{p.inboxClaimsList(), p.inboxClaimsSettle()},
	}
}

func (p program) inboxClaimsList() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list claims that are not done, the oldest first",
		UsageText: "relay inbox claims list --database-url URL [--consumer NAME] [--source NAME] [--older-than DURATION] " +
			"[--output json]",
		Description: `Young claims belong to effects that run right now. MSG_ID is the message's own id where it was seen again, and else
its mark, which settle takes as well.

Examples:
   relay inbox claims list --older-than 5m
   relay inbox claims list --consumer mailer --output json | jq -r '.claims[].mark'`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "consumer", Usage: "those of the consumer `NAME`"},
			&cli.StringFlag{Name: "source", Usage: "messages that the source `NAME` sent"},
			&cli.StringFlag{Name: "older-than", Usage: "those claimed for this `DURATION` at least, such as 90s or 48h"},
			limitFlag("the first `N` at most; 0 for all", 100), outputFlag(),
		}, databaseFlags()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			olderThan, err := readDuration(c, "older-than")
			if err != nil {
				return err
			}
			limit, err := readLimit(c)
			if err != nil {
				return err
			}
			return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
				claims, err := operator.NewInbox(conn).Claims(ctx, c.String("consumer"), c.String("source"), olderThan, limit)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeJSON(p.stdout, struct {
						Claims []operator.Claim `json:"claims"`
					}{claims})
				}
				return writeClaims(p.stdout, claims)
			})
		},
	}
}

func writeClaims(to io.Writer, claims []operator.Claim) error {
	if len(claims) == 0 {
		return writeLine(to, "no such claim")
	}
	return writeTable(to, "CONSUMER\tSOURCE\tMSG_ID\tCLAIMED\tAGE\tBY\tERROR", func(row func(...any)) {
		for _, c := range claims {
			id := c.Mark
			if c.MsgID != nil {
				id = *c.MsgID
			}
			row(name(c.Consumer), name(c.Source), name(id), second(c.ClaimedAt), age(c.AgeSeconds), name(c.Instance), sentence(c.Error, 100))
		}
	})
}

func (p program) inboxClaimsSettle() *cli.Command {
	return &cli.Command{
		Name:      "settle",
		Usage:     "say whether the effect of a claim happened",
		UsageText: "relay inbox claims settle --consumer NAME --source NAME --msg-id ID (--done | --not-done) --why TEXT",
		Description: `Find out first, outside: in the log of the mail server, at the payment provider. And make sure that the process
that claimed it is not at work right now.

With --done the claim goes and the message stays handled. With --not-done its mark goes too, so that the message is
handled when it comes again: forget and replay work as for any other.

Examples:
   relay inbox claims settle --consumer mailer --source shop --msg-id 4711 --done --why "in the mail log, OPS-17"
   relay inbox claims settle --consumer mailer --source shop --msg-id 4711 --not-done --why "OPS-17"`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "consumer", Usage: "the consumer `NAME`; required"},
			&cli.StringFlag{Name: "source", Usage: "the source `NAME` of the message; required"},
			&cli.StringFlag{Name: "msg-id", Usage: "the `ID` of the message, or its mark; required"},
			&cli.BoolFlag{Name: "done", Usage: "the effect happened"},
			&cli.BoolFlag{Name: "not-done", Usage: "the effect did not happen"},
			&cli.StringFlag{Name: "why", Usage: "how you know, `TEXT` that is recorded with your login; required"},
		}, databaseFlags()...),
		Action: p.settleClaim,
	}
}

func (p program) settleClaim(c *cli.Context) error {
	consumer, source, msgID, why := c.String("consumer"), c.String("source"), c.String("msg-id"), c.String("why")
	switch {
	case consumer == "" || source == "" || msgID == "":
		return usage("relay inbox claims list shows all three", "settle needs --consumer, --source and --msg-id")
	case c.Bool("done") == c.Bool("not-done"):
		return usage("--done where the effect happened, --not-done where it did not",
			"settle needs one of --done and --not-done")
	case strings.TrimSpace(why) == "":
		return usage(`--why "in the log of the mail server, OPS-17"`, "--why is missing: it is recorded how you know")
	}
	verdict, outcome := operator.Done, "its message stays handled"
	if c.Bool("not-done") {
		verdict, outcome = operator.NotDone, "its message is handled when it comes again"
	}
	return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
		if err := operator.NewInbox(conn).Settle(ctx, consumer, source, msgID, verdict, why); err != nil {
			return err
		}
		return writeLine(p.stdout, "settled as %s: %s", verdict, outcome)
	})
}
