package main

import (
	"context"
	"errors"
	"os"
	"os/user"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/internal/config"
	"github.com/outbox-relay/relay/internal/hint"
)

func (p program) recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Usage:     "show why a lane has halted, and settle it by a named choice",
		UsageText: "relay recover LANE [--choose CHOICE --yes] [flags]",
		ArgsUsage: "LANE",
		Description: `Prints what Postgres and Kafka say of the lane, what contradicts what, and what each choice would publish,
publish again, or skip. It changes nothing unless you choose and give --yes.

The choices, of which only those that are open are offered:
   kafka          continue after Kafka's checkpoint
   postgres       continue after the last batch that Postgres knows to be committed
   restart-from   publish every row of the table from --from on
   skip-to-now    regard every row of the table as published

With --yes a relay that has halted need not be stopped: it goes on by itself within seconds. A relay that has
not halted is left alone, and the command refuses. It takes the settings of relay run.

Examples:
   relay recover outbox --config /etc/relay/relay.yaml
   relay recover outbox --scan --output json | jq '.choices[] | {choice, new: .new.count, again: .again.count}'
   relay recover outbox --choose postgres --yes --why "restored to 14:05 after the bad migration"
   relay recover outbox --choose restart-from --from 2026-01-31T14:05:00Z --yes`,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "choose", Usage: "the `CHOICE`: kafka, postgres, restart-from or skip-to-now"},
			&cli.StringFlag{Name: "from", Usage: "where restart-from starts: an id, a time such as 2026-01-31T14:05:00Z, " +
				"or beginning (`PLACE`)"},
			&cli.BoolFlag{Name: "scan", Usage: "read the data topics back to the oldest row in doubt, and count by what is " +
				"in them"},
			&cli.BoolFlag{Name: "yes", Usage: "do it; without this nothing is changed"},
			&cli.StringFlag{Name: "why", Usage: "the reason, which is recorded (`TEXT`)"},
			&cli.StringFlag{Name: "who", Usage: "the person, who is recorded; by default the user and the host (`NAME`)"},
			outputFlag(),
		}, settingFlags()...),
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			request, err := readRecover(c)
			if err != nil {
				return err
			}
			cfg, err := p.load(c, config.Everything)
			if err != nil {
				return err
			}
			request.lane, err = laneArgument(c, cfg)
			if err != nil {
				return err
			}
			return orSignal(c.Context, p.recover(c.Context, cfg, request, form))
		},
	}
}

// laneLast moves the lane of relay recover behind the flags, if the flag package expects it.
func laneLast(args []string) []string {
	if len(args) < 3 || args[0] != "recover" || strings.HasPrefix(args[1], "-") {
		return args
	}
	return slices.Concat(args[:1], args[2:], args[1:2])
}

// recoverRequest is what the arguments ask for.
type recoverRequest struct {
	lane     string
	choice   relay.Choice // empty: none
	look     relay.Look
	yes      bool
	who, why string
}

func readRecover(c *cli.Context) (recoverRequest, error) {
	w := recoverRequest{
		choice: relay.Choice(c.String("choose")), yes: c.Bool("yes"), who: c.String("who"), why: c.String("why"),
		look: relay.Look{From: c.String("from"), Scan: c.Bool("scan"), Only: relay.Choice(c.String("choose"))},
	}
	if w.who == "" {
		w.who = userAtHost()
	}
	var names []string
	for _, known := range relay.Choices() {
		names = append(names, string(known))
	}
	switch {
	case w.choice != "" && !slices.Contains(relay.Choices(), w.choice):
		return w, usage("--choose "+strings.Join(names, ", "), "--choose: %q is not a valid choice", w.choice)
	case w.yes && w.choice == "":
		return w, usage("--choose with one of "+strings.Join(names, ", "), "--yes without --choose: nothing is chosen")
	case w.yes && w.choice == relay.ChooseRestartFrom && w.look.From == "":
		return w, usage("--from beginning, or an id or a time", "--choose restart-from --yes needs --from")
	case w.yes && w.look.Scan:
		return w, usage("relay recover LANE --scan, and then --choose CHOICE --yes",
			"--scan with --yes: the scan only counts")
	case c.IsSet("from") && w.choice != "" && w.choice != relay.ChooseRestartFrom:
		return w, usage("--choose restart-from", "--from has no meaning with --choose %s", w.choice)
	}
	if err := relay.CheckPlace(w.look.From); err != nil {
		return w, usage("--from 4711, --from 2026-01-31T14:05:00Z or --from beginning", "--from: %v", err)
	}
	return w, nil
}

// userAtHost is the user and the host, as far as they are known.
func userAtHost() string {
	name, host := "unknown", "unknown-host"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

func laneArgument(c *cli.Context, cfg config.Config) (string, error) {
	var lanes []string
	for _, lane := range cfg.Relay.WithDefaults().Lanes {
		lanes = append(lanes, lane.Name)
	}
	try := "relay recover " + strings.Join(lanes, ", or relay recover ")
	switch c.NArg() {
	case 0:
		return "", usage(try, "which lane?")
	case 1:
		if lane := c.Args().First(); slices.Contains(lanes, lane) {
			return lane, nil
		}
		return "", usage(try, "no lane is named %q", c.Args().First())
	}
	return "", usage("relay recover LANE [flags]", "one lane is wanted, and not the arguments %q", c.Args().Slice())
}

func (p program) recover(ctx context.Context, cfg config.Config, w recoverRequest, form output) error {
	cfg.Relay.Logger = p.logger(cfg)
	recovery, err := relay.NewRecovery(&cfg.Relay, w.lane)
	if err != nil {
		return err
	}
	if err := check(ctx, cfg, cfg.Relay.Logger); err != nil {
		return err
	}
	if w.yes {
		return p.settle(ctx, recovery, w, form)
	}
	findings, err := recovery.Inspect(ctx, w.look)
	if err != nil {
		return explainRecovery(w, err)
	}
	return p.show(findings, form)
}

func (p program) settle(ctx context.Context, recovery *relay.Recovery, w recoverRequest, form output) error {
	outcome, err := recovery.Apply(ctx, relay.Decision{Choice: w.choice, From: w.look.From, Who: w.who, Why: w.why})
	if err != nil {
		return explainRecovery(w, err)
	}
	return p.show(outcome, form)
}

func explainRecovery(w recoverRequest, err error) error {
	switch {
	case errors.Is(err, relay.ErrAgree):
		return hint.Wrap(err, "relay status, which says why the lane does not go on, if it does not")
	case errors.Is(err, relay.ErrClosed):
		return hint.Wrap(err, "relay recover %s, which shows the choices that are open", w.lane)
	case errors.Is(err, relay.ErrBusy):
		return hint.Wrap(err, "stop that relay if the lane is to be recovered all the same")
	}
	return err
}
