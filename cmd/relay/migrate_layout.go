package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/schema"
)

func layoutFlag(use string) cli.Flag { return &cli.StringFlag{Name: "layout", Usage: use} }

func partitionRowsFlag() cli.Flag {
	return &cli.IntFlag{Name: "partition-rows", Usage: "ids in a partition, `N`, when the layout becomes partitioned " +
		"(default 5000000)"}
}

// checkLayout refuses a layout that there is not.
func checkLayout(c *cli.Context) error {
	const try = "--layout partitioned, or --layout plain"
	layout := c.String("layout")
	if c.IsSet("layout") && !slices.Contains(schema.Layouts, layout) {
		return usage(try, "--layout: %q is not one of %s", layout, strings.Join(schema.Layouts, ", "))
	}
	if !c.IsSet("partition-rows") {
		return nil
	}
	const least, most = 1000, 1_000_000_000
	if n := c.Int("partition-rows"); n < least || n > most {
		return usage("--partition-rows 5000000", "--partition-rows: %d is not between %d and %d", n, least, most)
	}
	if layout != string(schema.Partitioned) {
		return usage("--layout partitioned --partition-rows …",
			"--partition-rows means nothing without --layout partitioned")
	}
	return nil
}

// planUp prints what up would run.
func (p program) planUp(c *cli.Context, m *schema.Migrator, layout schema.Layout) error {
	plan, err := m.PlanUp(c.Context)
	if err != nil {
		return err
	}
	var steps []schema.Migration
	if layout != "" {
		if steps, err = m.PlanLayout(c.Context, layout); err != nil {
			return err
		}
	}
	if len(plan) > 0 || len(steps) == 0 {
		if err := p.printPlan(plan, true); err != nil {
			return err
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return p.printPlan(steps, layout == schema.Partitioned)
}
