package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/parked"
)

func (p program) parkedList() *cli.Command {
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
		Flags: append(append(filterFlags(), limitFlag("the first `N` at most; 0 for all", 100), outputFlag()), parkedSettings()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			filter, err := readFilter(c)
			if err != nil {
				return err
			}
			return p.withParked(c, func(ctx context.Context, conn *pgx.Conn) error {
				list, err := parked.Read(ctx, conn, filter)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeJSON(p.stdout, list)
				}
				return writeParked(p.stdout, list, filter)
			})
		},
	}
}

// writeParked prints the table and the totals.
func writeParked(to io.Writer, list parked.List, filter parked.Filter) error {
	if len(list.Aggregates) == 0 {
		text := "nothing is parked"
		if !filter.Empty() {
			text = "nothing that is parked matches"
		}
		return writeLine(to, "%s", text)
	}
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LANE\tAGGREGATE\tROWS\tCAUSE\tSINCE\tAGE\tATTEMPTS\tREQUEST\tERROR")
	for _, a := range list.Aggregates {
		request := "-"
		if a.Request != nil {
			request = fmt.Sprintf("%s %d", *a.Action, *a.Request)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%s\t%s\t%s\t%d\t%s\t%s\n", name(a.Lane), name(a.AggregateType, a.AggregateID), a.Rows, a.Cause,
			second(a.Since), age(a.AgeSeconds), a.Attempts, request, sentence(a.Error, 100))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	more := ""
	if n := list.TotalAggregates - int64(len(list.Aggregates)); n > 0 {
		more = fmt.Sprintf("; %d more not shown (--limit)", n)
	}
	return writeLine(to, "\n%s with %s%s", counted(list.TotalAggregates, "aggregate", "aggregates"),
		counted(list.TotalRows, "event", "events"), more)
}

func writeLine(to io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(to, format+"\n", args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
