package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/operator"
)

type parkedCommands = queueCommands[operator.OutboxFilter, operator.Aggregates, operator.AggregateQueue, operator.AskedAggregate]

func (p program) parkedCommand() *cli.Command {
	q := parkedCommands{
		program: p, causes: []string{operator.Refused, operator.Topic, operator.Behind},
		words: queueWords{
			queue: "aggregate", queues: "aggregates", item: "event", items: "events", request: "request", requests: "requests",
			failed: "refused again", examples: "--aggregate TYPE/ID, --lane NAME", why: `"max.message.bytes raised, OPS-12"`,
			noPayload: "the event has no payload",
			mend:      "mend the cause first, or relay parked discard; relay parked show --aggregate TYPE/ID tells the cause",
			later: "relay status shows whether a relay runs the lane; what was asked for stands, and is done once one " +
				"does",
		},
		open: func(conn *pgx.Conn) queues[operator.OutboxFilter, operator.Aggregates, operator.AggregateQueue, operator.AskedAggregate] {
			return operator.NewOutbox(conn)
		},
		session: p.withOutbox, names: aggregateFlags, read: readAggregates,
		writeList: writeAggregates, writeQueue: writeAggregate, writeAsked: writeAskedAggregates,
		jsonAsked: jsonAskedAggregates,
	}
	return &cli.Command{
		Name:      "parked",
		Usage:     "look at events that cannot be published, and retry or discard them",
		UsageText: "relay parked list|show|retry|discard [flags]",
		Description: `An event that Kafka refuses for good is parked, and so is every later one of its aggregate, in order; all
others go on. These commands work on the database alone, with a login that holds the role relay_operator.
What they ask for is recorded with who asked and why, and the relay that runs the lane carries it out.`,
		Subcommands: []*cli.Command{parkedList(q), parkedShow(q), parkedRetry(q), parkedDiscard(q)},
	}
}

func parkedList(q parkedCommands) *cli.Command {
	return &cli.Command{
		Name:      "list",
		Usage:     "list the parked aggregates: how many events, why, since when",
		UsageText: "relay parked list --database-url URL [filters] [--output json]",
		Description: `One line an aggregate, the one parked first at the top. Filters are about the first event of each, the one
that holds up the rest; of several all must hold. The JSON form is a contract, documented in docs/poison.md.

Examples:
   relay parked list --database-url postgres://operator@db:5432/app
   relay parked list --lane orders --error "too large" --older-than 1h
   relay parked list --cause refused --output json | jq -r '.aggregates[].error'`,
		Flags: q.listFlags(), Action: q.list,
	}
}

func parkedShow(q parkedCommands) *cli.Command {
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
			&cli.StringFlag{Name: "aggregate", Usage: "the aggregate `TYPE/ID`; a type that holds a slash needs the next " +
				"two flags instead"},
			&cli.StringFlag{Name: "aggregate-type", Usage: "the `TYPE` of the aggregate"},
			&cli.StringFlag{Name: "aggregate-id", Usage: "the `ID` of the aggregate"},
			&cli.StringFlag{Name: "lane", Usage: "the lane `NAME`; needed where several have the aggregate"},
			&cli.BoolFlag{Name: "payload", Usage: "print the payload of the first event and nothing else"},
			&cli.StringFlag{Name: "msg-id", Usage: "with --payload: that of the event `UUID`"},
			limitFlag("the first `N` of each list at most; 0 for all", 100), outputFlag(),
		}, databaseFlags()...),
		Action: func(c *cli.Context) error {
			return q.show(c, func(f operator.OutboxFilter) error {
				switch {
				case f.AggregateType == "" || f.AggregateID == "":
					return usage("--aggregate TYPE/ID; relay parked list shows them", "show needs to be told which aggregate")
				case f.MsgID != "" && !c.Bool("payload"):
					return usage("--payload --msg-id UUID", "--msg-id goes with --payload")
				}
				return nil
			})
		},
	}
}

func parkedRetry(q parkedCommands) *cli.Command {
	return &cli.Command{
		Name:      "retry",
		Usage:     "publish parked events after all, in order",
		UsageText: "relay parked retry (filters | --all) --why TEXT [--dry-run] [--wait DURATION] [--output json]",
		Description: `Mend the cause first: raise max.message.bytes, grant the right, correct the row in outbox_parked. Each aggregate is
published in order, up to the first event that is refused again; what has arrived meanwhile comes behind.

Waits until the relay has done it. The exit status is 1 where an event was refused again, or where not all
was done within --wait; what is not done then is done once a relay runs the lane.

Examples:
   relay parked retry --aggregate order/4711 --why "max.message.bytes raised, OPS-12"
   relay parked retry --error "too large" --older-than 1h --dry-run
   relay parked retry --all --lane orders --why "schema mended" --wait 0`,
		Flags: parkedAskFlags(q), Action: askOutbox(q, operator.Retry),
	}
}

func parkedDiscard(q parkedCommands) *cli.Command {
	return &cli.Command{
		Name:      "discard",
		Usage:     "remove parked events for good: they are never published",
		UsageText: "relay parked discard (filters | --msg-id UUID | --all) --why TEXT --yes [--dry-run] [--wait DURATION]",
		Description: `With --msg-id one event goes, and those behind it are published. Without it the whole queue of each
aggregate goes, with what is still parked behind it until the relay does so; later events are published again.
Rows of the outbox itself are not touched.

Waits until the relay has done it, as relay parked retry does.

Examples:
   relay parked discard --msg-id 01980c5e-4d0a-7cc3-9d0b-5f1ce5d1a111 --why "test data, OPS-13" --yes
   relay parked discard --aggregate order/4711 --dry-run
   relay parked discard --lane orders --error "invalid header" --why "never valid, OPS-14" --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "msg-id", Usage: "only the event `UUID`"},
			&cli.BoolFlag{Name: "yes", Usage: "the events may be lost for good"},
		}, parkedAskFlags(q)...),
		Action: askOutbox(q, operator.Discard),
	}
}

func parkedAskFlags(q parkedCommands) []cli.Flag {
	return q.askFlags("of those that match the `N` that were parked first; 0 for all",
		"show what would be asked for, and change nothing", "wait at most this `DURATION` until it is done, 30s unless "+
			"told; 0 does not wait")
}

func askOutbox(q parkedCommands, action operator.Action) cli.ActionFunc {
	return func(c *cli.Context) error {
		return q.ask(c, func(ctx context.Context, conn *pgx.Conn, r askRequest[operator.OutboxFilter]) ([]operator.AskedAggregate, error) {
			return operator.NewOutbox(conn).Ask(ctx, action, r.filter, r.why)
		})
	}
}

func aggregateFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "lane", Usage: "those of the lane `NAME`"},
		&cli.StringFlag{Name: "aggregate", Usage: "the aggregate `TYPE/ID`; a type that holds a slash needs the next two " +
			"flags instead"},
		&cli.StringFlag{Name: "aggregate-type", Usage: "aggregates of this `TYPE`"},
		&cli.StringFlag{Name: "aggregate-id", Usage: "aggregates with this `ID`"},
	}
}

func readAggregates(c *cli.Context, shared operator.Filter) (f operator.OutboxFilter, err error) {
	f = operator.OutboxFilter{
		Filter: shared, Lane: c.String("lane"), AggregateType: c.String("aggregate-type"), AggregateID: c.String("aggregate-id"),
	}
	if whole := c.String("aggregate"); whole != "" {
		if f.AggregateType != "" || f.AggregateID != "" {
			return f, usage("--aggregate TYPE/ID, or the other two",
				"--aggregate excludes --aggregate-type and --aggregate-id")
		}
		var found bool
		if f.AggregateType, f.AggregateID, found = strings.Cut(whole, "/"); !found || f.AggregateType == "" || f.AggregateID == "" {
			return f, usage("--aggregate order/4711, or --aggregate-type and --aggregate-id",
				"--aggregate: %q is not TYPE/ID", whole)
		}
	}
	if f.MsgID != "" {
		id, err := uuid.Parse(f.MsgID)
		if err != nil {
			return f, usage("the msg_id that relay parked show prints", "--msg-id: %q is not a UUID", f.MsgID)
		}
		f.MsgID = id.String()
	}
	return f, checkTexts(f.Lane, f.AggregateType, f.AggregateID)
}

func writeAggregates(to io.Writer, list operator.Aggregates) error {
	return writeTable(to, "LANE\tAGGREGATE\tROWS\tCAUSE\tSINCE\tAGE\tATTEMPTS\tREQUEST\tERROR", func(row func(...any)) {
		for _, a := range list.Aggregates {
			request := "-"
			if a.Request != nil {
				request = fmt.Sprintf("%s %d", *a.Action, *a.Request)
			}
			row(name(a.Lane), name(a.AggregateType, a.AggregateID), a.Rows, a.Cause, second(a.Since), age(a.AgeSeconds), a.Attempts,
				request, sentence(a.Error, 100))
		}
	})
}

func writeAskedAggregates(
	to io.Writer, r askRequest[operator.OutboxFilter], asked []operator.AskedAggregate,
) (rows int64, err error) {
	err = writeTable(to, "LANE\tAGGREGATE\tROWS\tREQUEST\tEVENTS\tOUTCOME", func(row func(...any)) {
		for _, a := range asked {
			rows += a.Rows
			outcome := "open"
			switch {
			case r.dryRun:
				outcome = "would " + r.action
			case a.Done:
				outcome = sentence(a.Outcome, 0)
			case a.Joined:
				outcome = "open, as it was before"
			}
			row(name(a.Lane), name(a.AggregateType, a.AggregateID), a.Rows, orDash("%d", a.Request), a.Events, outcome)
		}
	})
	return rows, err
}

func jsonAskedAggregates(r askRequest[operator.OutboxFilter], asked []operator.AskedAggregate, open, failed int) any {
	return struct {
		Action       string                    `json:"action"`
		DryRun       bool                      `json:"dry_run"`
		Requests     []operator.AskedAggregate `json:"requests"`
		Open         int                       `json:"open"`
		RefusedAgain int                       `json:"refused_again"`
	}{r.action, r.dryRun, asked, open, failed}
}

func writeAggregate(to io.Writer, q operator.AggregateQueue) error {
	if err := writeAggregateHead(to, q); err != nil {
		return err
	}
	if len(q.Rows) > 0 {
		err := writeTable(to, "\nID\tMSG_ID\tTYPE\tTOPIC\tBYTES\tCREATED\tPARKED\tCAUSE\tATTEMPTS", func(row func(...any)) {
			for _, r := range q.Rows {
				topic, attempts := "-", "-" // a row that only waits was never refused
				if r.Topic != nil {
					topic = name(*r.Topic)
				}
				if r.Cause != operator.Behind {
					attempts = strconv.Itoa(r.Attempts)
				}
				row(r.ID, r.MsgID, name(r.Type), topic, orDash("%d", r.PayloadBytes), second(r.CreatedAt), second(r.ParkedAt), r.Cause, attempts)
			}
		})
		if err != nil {
			return err
		}
	}
	if err := writeMore(to, q.TotalRows-int64(len(q.Rows))); err != nil || len(q.Requests) == 0 {
		return err
	}
	return writeTable(to, "\nREQUEST\tACTION\tMSG_ID\tBY\tAT\tREASON\tDONE\tEVENTS\tOUTCOME", func(row func(...any)) {
		for _, r := range q.Requests {
			done := "open"
			if r.DoneAt != nil {
				done = second(*r.DoneAt)
			}
			row(r.Request, r.Action, orDash("%s", r.MsgID), name(r.RequestedBy), second(r.RequestedAt),
				sentence(&r.Reason, 60), done,
				r.Events, sentence(r.Outcome, 100))
		}
	})
}

func writeAggregateHead(to io.Writer, q operator.AggregateQueue) error {
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
