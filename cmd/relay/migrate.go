package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/hint"
	"github.com/outbox-relay/relay/internal/schema"
)

func (p program) migrateCommand() *cli.Command {
	return &cli.Command{
		Name:      "migrate",
		Usage:     "make, show and remove the tables of the outbox",
		UsageText: "relay migrate up|down|status|print [flags]",
		Description: `Works in the first schema of the search_path, or in --schema. Which migrations are there is recorded in
the table relay_schema_migrations, apart from that of other tools. Teams with another tool take the
SQL from relay migrate print.`,
		Subcommands: []*cli.Command{p.migrateUp(), p.migrateDown(), p.migrateStatus(), p.migratePrint()},
	}
}

func migrateFlags(more ...cli.Flag) []cli.Flag {
	return append(settingFlags("database-url", "database-url-file", "database-password-file", "schema", "start.timeout"),
		more...)
}

func dryRunFlag() cli.Flag {
	return &cli.BoolFlag{Name: "dry-run", Usage: "print the SQL that would run, and change nothing"}
}

func (p program) migrateUp() *cli.Command {
	return &cli.Command{
		Name:      "up",
		Usage:     "apply the migrations that are missing",
		UsageText: "relay migrate up --database-url URL [--schema NAME] [--layout partitioned] [--dry-run]",
		Description: `Creates only, and deletes nothing. Safe to run again, and by several at once. Each migration is one
transaction; a wait of more than 5 s for a lock ends it, so that it never holds up the application.

With --layout partitioned the outbox is then partitioned by id, for high volume; a table in use is turned without a
copy. With --layout plain it becomes one table again, by a copy. Without it the layout stays as it is.

Examples:
   relay migrate up --database-url postgres://owner@db:5432/app
   relay migrate up --database-url postgres://owner@db:5432/app --schema billing --dry-run
   relay migrate up --database-url postgres://owner@db:5432/app --layout partitioned`,
		Flags: migrateFlags(layoutFlag("bring the outbox into the layout `NAME`: plain or partitioned"),
			partitionRowsFlag(), dryRunFlag()),
		Before: checkLayout,
		Action: p.withMigrator(schema.Outbox, p.up),
	}
}

func (p program) up(c *cli.Context, m *schema.Migrator) error {
	layout := schema.Layout(c.String("layout"))
	if err := p.warnExposed(c, m); err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return p.planUp(c, m, layout)
	}
	applied := 0
	count := func(done schema.Migration) {
		applied++
		fmt.Fprintf(p.stdout, "applied %s\n", done)
	}
	err := m.Up(c.Context, count)
	if err == nil && layout != "" {
		err = m.Arrange(c.Context, layout, c.Int("partition-rows"), func(done schema.Migration) {
			applied++
			fmt.Fprintf(p.stdout, "layout %s: step %s\n", layout, done)
		})
	}
	if err == nil && applied == 0 {
		fmt.Fprintf(p.stdout, "nothing to do: every migration is in schema %s\n", m.Schema())
	}
	return err
}

// warnExposed tells of others who may create objects where the owner is about to create some and to
// run them.
func (p program) warnExposed(c *cli.Context, m *schema.Migrator) error {
	exposed, err := m.Exposed(c.Context)
	if err != nil || exposed == nil {
		return err
	}
	return writeLine(p.stderr, "Warning: %s. Try: %s", exposed, exposed.Remedy())
}

func (p program) migrateDown() *cli.Command {
	return &cli.Command{
		Name:      "down",
		Usage:     "take migrations out again, newest first",
		UsageText: "relay migrate down --database-url URL (--steps N | --all) [--dry-run] [--yes]",
		Description: `Refuses to delete rows unless --yes says so: the rows of the outbox are events, of which those not yet
published exist nowhere else, and the row of a lane is what it needs to go on.

Examples:
   relay migrate down --database-url postgres://owner@db:5432/app --steps 1 --dry-run
   relay migrate down --database-url postgres://owner@db:5432/app --all --yes`,
		Flags:  downFlags(),
		Before: checkSteps,
		Action: p.withMigrator(schema.Outbox, p.down),
	}
}

func downFlags() []cli.Flag {
	return migrateFlags(
		&cli.IntFlag{Name: "steps", Usage: "take out the newest `N`"},
		&cli.BoolFlag{Name: "all", Usage: "take out every migration"},
		&cli.BoolFlag{Name: "yes", Usage: "even where that deletes rows for good"},
		dryRunFlag(),
	)
}

func checkSteps(c *cli.Context) error {
	_, err := steps(c)
	return err
}

// steps returns how many migrations to take out, -1 for all.
func steps(c *cli.Context) (int, error) {
	const try = "--steps 1, or --all; with --dry-run to see first what would be deleted"
	switch given := c.IsSet("steps"); {
	case given && c.Bool("all"):
		return 0, usage(try, "--steps and --all exclude each other")
	case given && c.Int("steps") < 1:
		return 0, usage(try, "--steps: %d is less than 1", c.Int("steps"))
	case given:
		return c.Int("steps"), nil
	case c.Bool("all"):
		return -1, nil
	}
	return 0, usage(try, "down needs to be told how far")
}

func (p program) down(c *cli.Context, m *schema.Migrator) error {
	n, err := steps(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		plan, err := m.PlanDown(c.Context, n)
		if err != nil {
			return err
		}
		return p.printPlan(plan, false)
	}
	removed := 0
	err = m.Down(c.Context, n, c.Bool("yes"), func(done schema.Migration) {
		removed++
		fmt.Fprintf(p.stdout, "removed %s\n", done)
	})
	if _, lossy := errors.AsType[*schema.LossError](err); lossy {
		who := "relay"
		if m.Component().Name == schema.Inbox.Name {
			who = "consumer"
		}
		return hint.Wrap(err, "stop every %s and make sure that nothing in there is needed, then add --yes", who)
	}
	if err == nil && removed == 0 {
		fmt.Fprintf(p.stdout, "nothing to do: no migration is in schema %s\n", m.Schema())
	}
	return err
}

func (p program) migrateStatus() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "list the migrations, applied and pending",
		UsageText: "relay migrate status --database-url URL [--schema NAME] [--output json]",
		Flags:     migrateFlags(outputFlag()),
		Action:    p.withMigrator(schema.Outbox, p.migrations),
	}
}

// migrations prints which migrations are applied.
func (p program) migrations(c *cli.Context, m *schema.Migrator) error {
	form, err := parseOutput(c.String("output"))
	if err != nil {
		return err
	}
	all, err := m.Status(c.Context)
	if err != nil {
		return err
	}
	var layout schema.Layout // the inbox has none to choose
	if m.Component().Name == schema.Outbox.Name {
		if layout, err = m.Layout(c.Context); err != nil {
			return err
		}
	}
	return p.writeMigrations(m.Schema(), layout, all, form)
}

func (p program) writeMigrations(in string, layout schema.Layout, all []schema.Status, form output) error {
	type entry struct {
		Version uint   `json:"version"`
		Name    string `json:"name"`
		Applied bool   `json:"applied"`
	}
	entries := []entry{}
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tNAME\tSTATE")
	for _, m := range all {
		entries = append(entries, entry{m.Version, m.Name, m.Applied})
		state := "pending"
		if m.Applied {
			state = "applied"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\n", m.Version, m.Name, state)
	}
	if form == outputJSON {
		return writeJSON(p.stdout, struct {
			Schema     string        `json:"schema"`
			Layout     schema.Layout `json:"layout,omitempty"`
			Migrations []entry       `json:"migrations"`
		}{in, layout, entries})
	}
	if err := table.Flush(); err != nil || layout == "" {
		return err
	}
	_, err := fmt.Fprintf(p.stdout, "the layout of the outbox is %s\n", layout)
	return err
}

func (p program) migratePrint() *cli.Command {
	return &cli.Command{
		Name:      "print",
		Usage:     "print the SQL of every migration; needs no database",
		UsageText: "relay migrate print [--layout partitioned] [--down] > outbox.sql",
		Flags: []cli.Flag{
			layoutFlag("with the steps to the layout `NAME`: plain or partitioned"),
			printDownFlag(),
		},
		Before: checkLayout,
		Action: func(c *cli.Context) error {
			all := schema.Migrations()
			if c.String("layout") == string(schema.Partitioned) {
				all = append(all, schema.LayoutSteps()...)
			}
			return p.printAll(all, c.Bool("down"))
		},
	}
}

// printAll prints the migrations in the order in which they run.
func (p program) printAll(all []schema.Migration, down bool) error {
	if down {
		slices.Reverse(all)
	}
	return p.printPlan(all, !down)
}

// printPlan prints SQL that psql can run.
func (p program) printPlan(plan []schema.Migration, up bool) error {
	if len(plan) == 0 {
		_, err := fmt.Fprintln(p.stdout, "-- nothing to do")
		return err
	}
	for _, m := range plan {
		direction, text := "up", m.Up
		if !up {
			direction, text = "down", m.Down
		}
		if _, err := fmt.Fprintf(p.stdout, "-- %s.%s.sql\n%s\n", m, direction, text); err != nil {
			return err
		}
	}
	return nil
}

func printDownFlag() cli.Flag {
	return &cli.BoolFlag{Name: "down", Usage: "the SQL that takes them out"}
}

// withMigrator opens the database of the configuration for work on the tables of component.
func (p program) withMigrator(component schema.Component, work func(*cli.Context, *schema.Migrator) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		cfg, err := p.load(c, config.Database)
		if err != nil {
			return err
		}
		m, err := component.Open(c.Context, cfg.Relay.DatabaseURL, cfg.StartTimeout)
		if err == nil {
			err = errors.Join(work(c, m), m.Close(context.WithoutCancel(c.Context)))
		}
		return orSignal(c.Context, err)
	}
}
