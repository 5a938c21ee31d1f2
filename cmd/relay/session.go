package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/pg"
	"github.com/outbox-relay/relay/internal/preflight"
)

// databaseFlags are the settings of a command that works on a database alone.
func databaseFlags() []cli.Flag {
	return settingFlags("database-url", "database-url-file", "database-password-file", "schema", "start.timeout")
}

// withOutbox opens the database of the configuration for work on the outbox.
func (p program) withOutbox(c *cli.Context, work func(context.Context, *pgx.Conn) error) error {
	return p.withSession(c, preflight.Outbox, work)
}

// withInbox opens it for work on the tables of consumers.
func (p program) withInbox(c *cli.Context, work func(context.Context, *pgx.Conn) error) error {
	return p.withSession(c, preflight.Inbox, work)
}

func (p program) withSession(c *cli.Context, options pg.Options, work func(context.Context, *pgx.Conn) error) error {
	cfg, err := p.load(c, config.Database)
	if err != nil {
		return err
	}
	ctx := c.Context
	conn, err := preflight.ConnectFor(ctx, cfg.Relay.DatabaseURL, cfg.StartTimeout, options)
	if err == nil {
		err = errors.Join(work(ctx, conn), conn.Close(context.WithoutCancel(ctx)))
	}
	return orSignal(ctx, err)
}

func limitFlag(text string, value int) cli.Flag {
	return &cli.IntFlag{Name: "limit", Value: value, Usage: text}
}

func readLimit(c *cli.Context) (int, error) {
	limit := c.Int("limit")
	if limit < 0 {
		return 0, usage("--limit 100, or 0 for all", "--limit: %d is less than 0", limit)
	}
	return limit, nil
}

// readDuration reads a flag with a duration; zero if it is not set.
func readDuration(c *cli.Context, flag string) (time.Duration, error) {
	text := c.String(flag)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, usage("--"+flag+" 30s; units are ms, s, m and h", "--%s: %q is not a duration", flag, text)
	}
	return d, nil
}

// checkTexts refuses what Postgres cannot compare with anything that it stores.
func checkTexts(texts ...string) error {
	for _, text := range texts {
		if strings.ContainsRune(text, 0) {
			return usage("a text without it", "Postgres stores no zero byte in a text")
		}
	}
	return nil
}
