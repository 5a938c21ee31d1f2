package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/parked"
)

func (p program) parkedRetry() *cli.Command {
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
		Flags:  askFlags(),
		Action: func(c *cli.Context) error { return p.ask(c, parked.Retry) },
	}
}

func (p program) parkedDiscard() *cli.Command {
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
		}, askFlags()...),
		Action: func(c *cli.Context) error { return p.ask(c, parked.Discard) },
	}
}

func askFlags() []cli.Flag {
	flags := append(filterFlags(),
		limitFlag("of those that match the `N` that were parked first; 0 for all", 0),
		&cli.BoolFlag{Name: "all", Usage: "everything that is parked, where no filter is given"},
		&cli.StringFlag{Name: "why", Usage: "the reason, `TEXT` that is recorded with your login; required"},
		&cli.BoolFlag{Name: "dry-run", Usage: "show what would be asked for, and change nothing"},
		&cli.StringFlag{Name: "wait", Value: "30s", Usage: "wait at most this `DURATION` until it is done, 30s unless told; 0 does not wait"},
		outputFlag())
	return append(flags, parkedSettings()...)
}

// askRequest is what retry and discard are asked for.
type askRequest struct {
	action parked.Action
	filter parked.Filter
	why    string
	dryRun bool
	wait   time.Duration
	form   output
}

func readAsk(c *cli.Context, action parked.Action) (r askRequest, err error) {
	r = askRequest{action: action, why: c.String("why"), dryRun: c.Bool("dry-run")}
	if r.form, err = parseOutput(c.String("output")); err != nil {
		return r, err
	}
	if r.filter, err = readFilter(c); err != nil {
		return r, err
	}
	if r.wait, err = readDuration("wait", c.String("wait")); err != nil {
		return r, err
	}
	switch {
	case r.filter.Empty() && !c.Bool("all"):
		return r, usage("--aggregate TYPE/ID, --lane NAME, --error TEXT, …, or --all", "%s needs to be told which", action)
	case r.dryRun:
	case r.why == "":
		return r, usage(`--why "max.message.bytes raised, OPS-12"`, "--why is missing: the reason is recorded")
	case action == parked.Discard && !c.Bool("yes"):
		return r, usage("--dry-run to see what would go, then --yes", "discard removes events for good")
	}
	return r, nil
}

func (p program) ask(c *cli.Context, action parked.Action) error {
	r, err := readAsk(c, action)
	if err != nil {
		return err
	}
	return p.withParked(c, func(ctx context.Context, conn *pgx.Conn) error {
		if r.dryRun {
			asked, err := parked.Plan(ctx, conn, r.filter)
			if err != nil {
				return err
			}
			return p.writeAsked(r, asked)
		}
		asked, err := parked.Ask(ctx, conn, r.action, r.filter, r.why)
		if err != nil {
			return err
		}
		waited := p.awaitAsked(ctx, conn, r, asked)
		return errors.Join(p.writeAsked(r, asked), waited)
	})
}

// awaitAsked waits for what was asked, and returns an error where it was not done, or ended badly.
func (p program) awaitAsked(ctx context.Context, conn *pgx.Conn, r askRequest, asked []parked.Asked) error {
	idle, err := parked.Idle(ctx, conn, asked)
	if err != nil {
		return err
	}
	for _, why := range idle {
		if err := writeLine(p.stderr, "Note: %s", why); err != nil {
			return err
		}
	}
	if r.wait == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	if err := parked.Await(limited, conn, asked); err != nil && limited.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return judgeAsked(r, asked)
}

func judgeAsked(r askRequest, asked []parked.Asked) error {
	open, refused := tally(asked)
	var faults []error
	if refused > 0 {
		still := counted(int64(refused), "aggregate is still parked", "aggregates are still parked")
		faults = append(faults, hint.New("refused again: "+still,
			"mend the cause first, or relay parked discard; relay parked show --aggregate TYPE/ID tells the cause"))
	}
	if open > 0 {
		faults = append(faults, hint.New(fmt.Sprintf("%s not done within %v", counted(int64(open), "request was", "requests were"), r.wait),
			"relay status shows whether a relay runs the lane; what was asked for stands, and is done once one does"))
	}
	return errors.Join(faults...)
}

// tally counts what is not done, and what was refused again.
func tally(asked []parked.Asked) (open, refused int) {
	for _, a := range asked {
		if !a.Done {
			open++
		}
		if a.RefusedAgain() {
			refused++
		}
	}
	return open, refused
}

func (p program) writeAsked(r askRequest, asked []parked.Asked) error {
	if r.form == outputText {
		return writeAskedText(p.stdout, r, asked)
	}
	open, refused := tally(asked)
	return writeJSON(p.stdout, struct {
		Action       parked.Action  `json:"action"`
		DryRun       bool           `json:"dry_run"`
		Requests     []parked.Asked `json:"requests"`
		Open         int            `json:"open"`
		RefusedAgain int            `json:"refused_again"`
	}{r.action, r.dryRun, asked, open, refused})
}

func writeAskedText(to io.Writer, r askRequest, asked []parked.Asked) error {
	if len(asked) == 0 {
		return writeLine(to, "nothing that is parked matches")
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LANE\tAGGREGATE\tROWS\tREQUEST\tEVENTS\tOUTCOME")
	rows := int64(0)
	for _, a := range asked {
		rows += a.Rows
		outcome := "open"
		switch {
		case r.dryRun:
			outcome = "would " + string(r.action)
		case a.Done:
			outcome = sentence(a.Outcome, 0)
		case a.Joined:
			outcome = "open, as it was before"
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%d\t%s\n", name(a.Lane), name(a.AggregateType, a.AggregateID), a.Rows,
			orDash("%d", a.Request), a.Events, outcome)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if !r.dryRun {
		return nil
	}
	return writeLine(to, "\nwould %s %s with %s; nothing was changed", r.action, counted(int64(len(asked)), "aggregate", "aggregates"),
		counted(rows, "event", "events"))
}
