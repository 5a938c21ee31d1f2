package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/operator"
)

func (p program) inboxConsumers() *cli.Command {
	return &cli.Command{
		Name:      "consumers",
		Usage:     "list the consumers: retention, marks, what is parked, sessions",
		UsageText: "relay inbox consumers --database-url URL [--output json]",
		Description: `MARKS is an estimate from the statistics of Postgres. PARTITIONS are those that a process of the consumer works on,
or worked on until it ended without notice; the next one that takes a partition over replaces the row.

Examples:
   relay inbox consumers --database-url postgres://operator@db:5432/billing
   relay inbox consumers --output json | jq '.consumers[] | select(.parked_keys > 0)'`,
		Flags: append([]cli.Flag{outputFlag()}, databaseFlags()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
				consumers, err := operator.NewInbox(conn).Consumers(ctx)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeJSON(p.stdout, struct {
						Consumers []operator.Consumer `json:"consumers"`
					}{consumers})
				}
				return writeConsumers(p.stdout, consumers)
			})
		},
	}
}

func writeConsumers(to io.Writer, consumers []operator.Consumer) error {
	if len(consumers) == 0 {
		return writeLine(to, "no consumer has been here")
	}
	const header = "CONSUMER\tRETENTION\tMARKS\tPARKED KEYS\tPARKED MESSAGES\tRETRIES ASKED FOR\tCLAIMS\t" +
		"PARTITIONS\tPROCESSES\tNEWEST SESSION"
	return writeTable(to, header, func(row func(...any)) {
		for _, c := range consumers {
			retention := "forever"
			if c.RetentionSeconds != nil {
				retention = age(*c.RetentionSeconds)
			}
			row(name(c.Consumer), retention, fmt.Sprintf("~%d", c.MarksEstimate), c.ParkedKeys, c.ParkedMessages, c.Requested, c.Claims,
				c.Partitions, c.Instances, secondOrDash(c.OpenedAt))
		}
	})
}
