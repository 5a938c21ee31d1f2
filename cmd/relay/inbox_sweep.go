package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/internal/operator"
)

func (p program) inboxSweep() *cli.Command {
	return &cli.Command{
		Name:      "sweep",
		Usage:     "remove marks that are older than the retention of their consumer",
		UsageText: "relay inbox sweep --database-url URL [--output json]",
		Description: `Consumers do this by themselves now and then; the command is for cron, or for services in other languages. It
works in small steps and holds nothing up; while another process does the same it has nothing to do. What was left
because others held a lock is done the next time. It needs one of the roles inbox_consumer and inbox_operator.

Examples:
   relay inbox sweep --database-url postgres://operator@db:5432/billing`,
		Flags: append([]cli.Flag{outputFlag()}, databaseFlags()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			return p.withInbox(c, func(ctx context.Context, conn *pgx.Conn) error {
				swept, err := sweep(ctx, conn)
				if err != nil {
					return err
				}
				if form == outputJSON {
					return writeSweptJSON(p.stdout, swept)
				}
				return writeSwept(p.stdout, swept)
			})
		},
	}
}

// sweep works with the settings of conn on its own connection.
func sweep(ctx context.Context, conn *pgx.Conn) (inbox.Swept, error) {
	cfg, err := pgxpool.ParseConfig("")
	if err != nil {
		return inbox.Swept{}, fmt.Errorf("prepare a connection: %w", err)
	}
	cfg.ConnConfig, cfg.MaxConns = conn.Config(), 1
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return inbox.Swept{}, fmt.Errorf("connect: %w", operator.ExplainInbox(err))
	}
	defer pool.Close()
	in, err := inbox.New(pool, &inbox.Config{Consumer: "relay inbox sweep"}) // writes no mark, so the name does not matter
	if err != nil {
		return inbox.Swept{}, err
	}
	swept, err := in.Sweep(ctx)
	return swept, operator.ExplainInbox(err)
}

func writeSweptJSON(to io.Writer, swept inbox.Swept) error {
	return writeJSON(to, struct {
		Emptied   []string `json:"emptied"`
		Deleted   int64    `json:"deleted"`
		Started   int64    `json:"started"`
		Added     int      `json:"added"`
		Dropped   int      `json:"dropped"`
		AheadFull bool     `json:"ahead_full"`
		Blocked   []string `json:"blocked"`
	}{append([]string{}, swept.Emptied...), swept.Deleted, swept.Started, swept.Added, swept.Dropped, swept.AheadFull,
		append([]string{}, swept.Blocked...)})
}

func writeSwept(to io.Writer, swept inbox.Swept) error {
	var lines []string
	add := func(applies bool, format string, args ...any) {
		if applies {
			lines = append(lines, fmt.Sprintf(format, args...))
		}
	}
	add(len(swept.Emptied) > 0, "emptied %s", strings.Join(swept.Emptied, ", "))
	add(swept.Deleted > 0, "deleted %s", counted(swept.Deleted, "mark", "marks"))
	add(swept.Started > 0, "deleted %s", counted(swept.Started, "started mark", "started marks"))
	add(swept.Added > 0, "added %s", counted(int64(swept.Added), "week", "weeks"))
	add(swept.Dropped > 0, "dropped %s", counted(int64(swept.Dropped), "week", "weeks"))
	add(swept.AheadFull, "no week could be added: inbox_ahead holds too many marks; see docs/inbox-operations.md")
	add(len(swept.Blocked) > 0, "left for the next time, because others held a lock: %s",
		strings.Join(swept.Blocked, ", "))
	if lines == nil {
		lines = []string{"nothing to do"}
	}
	var faults []error
	for _, line := range lines {
		faults = append(faults, writeLine(to, "%s", line))
	}
	return errors.Join(faults...)
}
