package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/inboxparked"
)

func (p program) inboxParkedShow() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the parked messages of one key, and what was asked for",
		UsageText: "relay inbox parked show (--key-id N | --key TEXT [--topic NAME] [--consumer NAME] | --msg-id ID) [--payload]",
		Description: `The messages stand in the order in which they are to be handled; the first one holds up the rest. Below them
stands what people asked for: who, when, why, and what came of it. No payload is shown unless --payload asks for
it: that prints the bytes of one message and nothing else.

Examples:
   relay inbox parked show --key-id 17
   relay inbox parked show --consumer billing --topic orders --key 4711 --output json
   relay inbox parked show --key-id 17 --payload | jq .`,
		Flags: append(append(keyFlags(),
			&cli.StringFlag{Name: "msg-id", Usage: "the key behind which the message `ID` waits; with --payload: that message"},
			&cli.BoolFlag{Name: "payload", Usage: "print the payload of the first message and nothing else"},
			limitFlag("the first `N` of each list at most; 0 for all", 100), outputFlag(),
		), parkedSettings()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			filter, err := readInboxFilter(c)
			if err != nil {
				return err
			}
			switch {
			case filter.KeyID == 0 && filter.Key == nil && filter.MsgID == "":
				return usage("--key-id N, --key TEXT or --msg-id ID; relay inbox parked list shows them", "show needs to be told which key")
			case c.Bool("payload") && form == outputJSON:
				return usage("--payload without --output json; it prints the bytes as they are", "--payload and --output json exclude each other")
			}
			return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
				if c.Bool("payload") {
					return p.showInboxPayload(ctx, conn, filter)
				}
				queue, err := inboxparked.Show(ctx, conn, filter, filter.Limit)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeJSON(p.stdout, queue)
				}
				return writeInboxQueue(p.stdout, queue)
			})
		},
	}
}

func (p program) showInboxPayload(ctx context.Context, conn *pgx.Conn, filter inboxparked.Filter) error {
	payload, err := inboxparked.Payload(ctx, conn, filter)
	if err != nil {
		return err
	}
	if payload == nil {
		return writeLine(p.stderr, "the message has no payload: it is a tombstone")
	}
	if _, err := p.stdout.Write(payload); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

func writeInboxQueue(to io.Writer, q inboxparked.Queue) error {
	err := writeLine(to, "key %s of topic %s, consumer %s: %s parked (key id %d)", keyName(q.Name), name(q.Topic), name(q.Consumer),
		counted(q.TotalMessages, "message", "messages"), q.KeyID)
	if err == nil && q.RequestedAt != nil {
		err = writeLine(to, "a retry is asked for since %s, by %s: %s", second(*q.RequestedAt), sentence(q.RequestedBy, 0),
			sentence(q.Reason, 0))
	}
	if err == nil && len(q.Messages) > 0 && q.Messages[0].Error != nil {
		err = writeLine(to, "the first one: %s", sentence(q.Messages[0].Error, 0))
	}
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	if len(q.Messages) > 0 {
		fmt.Fprintln(table, "\nSOURCE\tMSG_ID\tTYPE\tPARTITION\tOFFSET\tBYTES\tPARKED\tCAUSE\tATTEMPTS\tERROR")
	}
	for _, m := range q.Messages {
		attempts := "-" // a message that only waits was never tried
		if m.Cause != inboxparked.Behind || m.Attempts > 0 {
			attempts = strconv.Itoa(m.Attempts)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", name(m.Source), name(m.MsgID), name(m.Type), m.Partition, m.Offset,
			orDash("%d", m.PayloadBytes), second(m.ParkedAt), m.Cause, attempts, sentence(m.Error, 60))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if n := q.TotalMessages - int64(len(q.Messages)); n > 0 {
		if err := writeLine(to, "%d more not shown (--limit)", n); err != nil {
			return err
		}
	}
	return writeAudit(to, q.Audit)
}

func writeAudit(to io.Writer, entries []inboxparked.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nAT\tACTION\tBY\tMSG_ID\tREASON\tDETAILS")
	for _, e := range entries {
		id, details := "-", string(e.Details)
		if e.MsgID != nil {
			id = name(*e.MsgID)
		}
		if details == "" {
			details = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", second(e.At), e.Action, name(e.By), id, sentence(e.Reason, 60), sentence(&details, 120))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
