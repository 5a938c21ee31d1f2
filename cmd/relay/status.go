package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/operator"
	"github.com/outbox-relay/relay/internal/preflight"
)

func (p program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show the state of each lane, its owner and how much is behind",
		UsageText: "relay status --database-url URL [--output json]",
		Description: `Reads the database only: no Kafka, no running relay is needed, and nothing is changed.

The JSON form is a contract, documented in docs/status.md.

Examples:
   relay status --database-url postgres://relay@db:5432/app
   relay status --config relay.yaml --output json | jq '.lanes[] | select(.state == "halted") | .reason'`,
		Flags: append(settingFlags("database-url", "database-url-file", "database-password-file", "schema", "table",
			"start.timeout"),
			outputFlag()),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			cfg, err := p.load(c, config.Database)
			if err != nil {
				return err
			}
			return orSignal(c.Context, p.showStatus(c.Context, cfg, form))
		},
	}
}

func (p program) showStatus(ctx context.Context, cfg config.Config, form output) error {
	conn, err := preflight.Connect(ctx, cfg.Relay.DatabaseURL, cfg.StartTimeout)
	if err != nil {
		return err
	}
	lanes, err := operator.Lanes(ctx, conn, cfg.Relay.Lanes)
	if err := errors.Join(err, conn.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	if form == outputJSON {
		return writeJSON(p.stdout, struct {
			Lanes []operator.Lane `json:"lanes"`
		}{lanes})
	}
	return writeLanes(p.stdout, lanes)
}

// writeLanes prints a table, and the reasons below it: they are sentences.
func writeLanes(to io.Writer, lanes []operator.Lane) error {
	const header = "LANE\tTABLE\tSTATE\tOWNER\tALIVE\tSEQ\tROWS BEHIND\tSECONDS BEHIND\tPARKED"
	err := writeTable(to, header, func(row func(...any)) {
		for _, l := range lanes {
			alive := "no"
			if l.OwnerAlive {
				alive = "yes"
			}
			row(l.Lane, orDash("%s", l.Table), l.State, orDash("%s", l.Owner), alive, l.Seq, orDash("%d", l.RowsBehind),
				orDash("%.1f", l.SecondsBehind), l.ParkedAggregates)
		}
	})
	if err != nil {
		return err
	}
	for _, l := range lanes {
		if _, err := io.WriteString(to, remarks(l)); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

// remarks returns what the table leaves out, a paragraph each.
func remarks(l operator.Lane) string {
	text := ""
	if l.Reason != nil && *l.Reason != "" {
		text += fmt.Sprintf("\n%s is %s: %s\n", l.Lane, l.State, *l.Reason)
	}
	if l.LockStranger != nil {
		text += fmt.Sprintf("\nThe advisory lock of %s is held by %s, which is not the relay that runs it.\n", l.Lane,
			*l.LockStranger)
	}
	if l.SettingsChanged != nil {
		text += fmt.Sprintf("\nThe settings of %s changed at %s; every replica should have the same.\n", l.Lane, *l.SettingsChanged)
	}
	if l.ParkedSince != nil {
		text += fmt.Sprintf("\n%s has parked %s with %s, the first at %s; relay parked list tells why.\n", l.Lane,
			counted(l.ParkedAggregates, "aggregate", "aggregates"), counted(l.ParkedRows, "event",
				"events"), second(*l.ParkedSince))
	}
	for _, warning := range l.Warnings {
		text += fmt.Sprintf("\nWarning of %s: %s.\n", l.Lane, warning)
	}
	if l.Owner != nil && !l.OwnerAlive {
		text += fmt.Sprintf("\nNo relay runs %s at this moment; %s was the last.\n", l.Lane, *l.Owner)
	}
	return text
}
