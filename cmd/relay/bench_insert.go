package main

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/bench"
	"github.com/outbox-relay/relay/internal/config"
)

func (p program) benchInsertCommand() *cli.Command {
	return &cli.Command{
		Name:      "insert",
		Usage:     "measure what an event costs the transaction that writes it",
		UsageText: "relay bench insert --database-url URL [flags]",
		Description: `Runs one business transaction (an INSERT into orders, an UPDATE of an account, COMMIT) in three forms and
in turn: without an event; with a plain row of the same size in a table without our columns and our index,
written in as many round trips; and with an event, written by the Go library with its defaults. Commits a
second, for each number of writers, and the ratios. synchronous_commit is the server's.

It works in its own schema (relay_bench_…) and removes it at the end, also after Ctrl-C. The role needs
CREATE on the database. Kafka is not needed.

The JSON form is one line, documented in docs/performance.md; progress goes to standard error.

Examples:
   relay bench insert --database-url postgres://owner@db:5432/app
   relay bench insert --database-url postgres://owner@db:5432/app --writers 1,16,64 --seconds 5 --output json`,
		Flags: slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "writers", Value: "1,2,4,8,16,32,64",
				Usage: "`N[,N]` writers at the same time; unset, 1,2,4,8,16,32,64"},
			&cli.IntFlag{Name: "size", Value: 200, Usage: "payloads of so many `BYTES`; unset, 200"},
			&cli.IntFlag{Name: "rounds", Value: 3, Usage: "`N` turns of each form; medians are shown; unset, 3"},
			&cli.IntFlag{Name: "seconds", Value: 2, Usage: "measure each form for `N` seconds a turn; unset, 2"},
		}, []cli.Flag{outputFlag()}, settingFlags("database-url", "start.timeout")),
		Action: p.benchInsert,
	}
}

func (p program) benchInsert(c *cli.Context) error {
	form, err := parseOutput(c.String("output"))
	if err == nil {
		err = notZero(c, "size", "rounds", "seconds")
	}
	if err != nil {
		return err
	}
	writers, err := parseNumbers("writers", c.String("writers"))
	if err != nil {
		return err
	}
	loaded, err := p.load(c, config.Database)
	if err != nil {
		return err
	}
	cfg := bench.InsertConfig{
		DatabaseURL: loaded.Relay.DatabaseURL, StartTimeout: loaded.StartTimeout, Writers: writers,
		Size: c.Int("size"), Rounds: c.Int("rounds"), Duration: time.Duration(c.Int("seconds")) * time.Second,
	}
	if err := cfg.WithDefaults().Validate(); err != nil {
		return usageFaults("relay bench insert --help", err)
	}
	return p.measure(c.Context, form, func(ctx context.Context, view bench.View) (benchResult, error) {
		cfg.View = view
		return bench.RunInsert(ctx, cfg)
	})
}
