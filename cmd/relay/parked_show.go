package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/parked"
)

func (p program) parkedShow() *cli.Command {
	return &cli.Command{
		Name:      "show",
		Usage:     "show the parked events of one aggregate, and what was asked for",
		UsageText: "relay parked show --aggregate TYPE/ID [--lane NAME] [--payload [--msg-id UUID]] [--output json]",
		Description: `The events stand in the order in which they are to be published; the first one holds up the rest. Below them
stands what people asked for: who, when, why, and what came of it. No payload is shown unless --payload asks for
it: that prints the bytes of one event and nothing else.

Examples:
   relay parked show --aggregate order/4711
   relay parked show --aggregate order/4711 --payload | jq .
   relay parked show --aggregate-type order --aggregate-id 4711 --lane orders --output json`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "aggregate", Usage: "the aggregate `TYPE/ID`; a type that holds a slash needs the next two flags instead"},
			&cli.StringFlag{Name: "aggregate-type", Usage: "the `TYPE` of the aggregate"},
			&cli.StringFlag{Name: "aggregate-id", Usage: "the `ID` of the aggregate"},
			&cli.StringFlag{Name: "lane", Usage: "the lane `NAME`; needed where several have the aggregate"},
			&cli.BoolFlag{Name: "payload", Usage: "print the payload of the first event and nothing else"},
			&cli.StringFlag{Name: "msg-id", Usage: "with --payload: that of the event `UUID`"},
			limitFlag("the first `N` of each list at most; 0 for all", 100), outputFlag(),
		}, parkedSettings()...),
		Action: func(c *cli.Context) error {
			ask, err := readShow(c)
			if err != nil {
				return err
			}
			return p.withParked(c, func(ctx context.Context, conn *pgx.Conn) error { return p.showParked(ctx, conn, ask) })
		},
	}
}

// showRequest is what relay parked show is asked for.
type showRequest struct {
	lane, aggregateType, aggregateID string
	payload                          bool
	msgID                            *uuid.UUID
	limit                            int
	form                             output
}

func readShow(c *cli.Context) (r showRequest, err error) {
	r = showRequest{lane: c.String("lane"), payload: c.Bool("payload"), limit: c.Int("limit")}
	if r.form, err = parseOutput(c.String("output")); err != nil {
		return r, err
	}
	if r.aggregateType, r.aggregateID, err = readAggregate(c); err != nil {
		return r, err
	}
	if r.msgID, err = readMsgID(c); err != nil {
		return r, err
	}
	switch {
	case r.aggregateType == "" || r.aggregateID == "":
		return r, usage("--aggregate TYPE/ID; relay parked list shows them", "show needs to be told which aggregate")
	case r.limit < 0:
		return r, usage("--limit 100, or 0 for all", "--limit: %d is less than 0", r.limit)
	case r.msgID != nil && !r.payload:
		return r, usage("--payload --msg-id UUID", "--msg-id goes with --payload")
	case r.payload && r.form == outputJSON:
		return r, usage("--payload without --output json; it prints the bytes as they are", "--payload and --output json exclude each other")
	}
	return r, nil
}

func (p program) showParked(ctx context.Context, conn *pgx.Conn, ask showRequest) error {
	if ask.payload {
		payload, err := parked.Payload(ctx, conn, ask.lane, ask.aggregateType, ask.aggregateID, ask.msgID)
		if err != nil {
			return err
		}
		if payload == nil {
			return writeLine(p.stderr, "the event has no payload")
		}
		if _, err := p.stdout.Write(payload); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return nil
	}
	queue, err := parked.Show(ctx, conn, ask.lane, ask.aggregateType, ask.aggregateID, ask.limit)
	if err != nil {
		return err
	}
	if ask.form == outputJSON {
		return writeJSON(p.stdout, queue)
	}
	return writeQueue(p.stdout, queue)
}

func writeQueue(to io.Writer, q parked.Queue) error {
	if err := writeHead(to, q); err != nil {
		return err
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	if len(q.Rows) > 0 {
		fmt.Fprintln(table, "\nID\tMSG_ID\tTYPE\tTOPIC\tBYTES\tCREATED\tPARKED\tCAUSE\tATTEMPTS")
	}
	for _, r := range q.Rows {
		topic, attempts := "-", "-" // a row that only waits was never refused
		if r.Topic != nil {
			topic = name(*r.Topic)
		}
		if r.Cause != parked.Behind {
			attempts = strconv.Itoa(r.Attempts)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.MsgID, name(r.Type), topic, orDash("%d", r.PayloadBytes),
			second(r.CreatedAt), second(r.ParkedAt), r.Cause, attempts)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if n := q.TotalRows - int64(len(q.Rows)); n > 0 {
		if err := writeLine(to, "%d more not shown (--limit)", n); err != nil {
			return err
		}
	}
	return writeRequests(to, q.Requests)
}

func writeHead(to io.Writer, q parked.Queue) error {
	what := name(q.AggregateType, q.AggregateID)
	if q.Leaving > 0 {
		if err := writeLine(to, "%s of %s in lane %s: on their way out, in a batch that is being committed",
			counted(q.Leaving, "event", "events"), what, name(q.Lane)); err != nil {
			return err
		}
	}
	if len(q.Rows) == 0 {
		return writeLine(to, "nothing is parked of %s in lane %s", what, name(q.Lane))
	}
	if err := writeLine(to, "%s in lane %s: %s parked", what, name(q.Lane), counted(q.TotalRows, "event", "events")); err != nil {
		return err
	}
	if q.Rows[0].Error == nil {
		return nil
	}
	return writeLine(to, "the first one: %s", sentence(q.Rows[0].Error, 0))
}

func writeRequests(to io.Writer, requests []parked.Request) error {
	if len(requests) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nREQUEST\tACTION\tMSG_ID\tBY\tAT\tREASON\tDONE\tEVENTS\tOUTCOME")
	for _, r := range requests {
		done := "open"
		if r.DoneAt != nil {
			done = second(*r.DoneAt)
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", r.Request, r.Action, orDash("%s", r.MsgID), name(r.RequestedBy),
			second(r.RequestedAt), sentence(&r.Reason, 60), done, r.Events, sentence(r.Outcome, 100))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
