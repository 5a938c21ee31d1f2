package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
)

// app returns the command line of the program.
func (p program) app() *cli.App {
	app := &cli.App{
		Name:      "relay",
		Usage:     "publishes the events of a Postgres outbox to Kafka, exactly once and in order",
		UsageText: "relay COMMAND [flags]",
		Description: `relay migrate up makes the tables, relay run publishes, relay status shows how far it is.

Settings come from flags, RELAY_* environment variables and a YAML file (--config), in this order of
precedence. relay run --help lists them all.`,
		Commands:        p.commands(),
		HideHelpCommand: true,
		HideVersion:     true,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "version", Usage: "show the version and exit",
			DisableDefaultText: true}},
		Writer:         p.stdout,
		ErrWriter:      p.stderr,
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   badFlag,
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return p.version(outputText)
			}
			return chosenNone(c)
		},
	}
	return app
}

// commands returns every subcommand.
func (p program) commands() []*cli.Command {
	commands := []*cli.Command{
		p.runCommand(), p.migrateCommand(), p.statusCommand(), p.parkedCommand(), p.inboxCommand(), p.recoverCommand(), p.aclCommand(),
		p.benchCommand(),
	}
	commands = append(commands, p.demoCommands()...)
	commands = append(commands, p.versionCommand())
	for _, c := range commands {
		strict(c)
	}
	return commands
}

// strict makes a command refuse what it does not know, in our own words.
func strict(c *cli.Command) {
	c.OnUsageError = badFlag
	c.HideHelpCommand = true
	for _, sub := range c.Subcommands {
		strict(sub)
	}
	if c.Action == nil { // it only holds others together
		c.Action = chosenNone
		return
	}
	c.CustomHelpTemplate = helpTemplate(c)
	act := c.Action
	c.Action = func(c *cli.Context) error {
		switch {
		case c.Args().Present() && len(c.Command.Subcommands) > 0:
			return chosenNone(c)
		case c.Args().Present() && c.Command.ArgsUsage == "":
			return usage(c.Command.HelpName+" --help", "unexpected argument %q", c.Args().First())
		}
		return act(c)
	}
}

// chosenNone answers if no subcommand was named, or none that exists.
func chosenNone(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	name, whole := c.Args().First(), c.Command.HelpName
	var known []string
	commands := c.App.Commands
	if len(c.Command.Subcommands) > 0 {
		commands = c.Command.Subcommands
	}
	for _, sub := range commands {
		if !sub.Hidden {
			known = append(known, sub.Name)
		}
	}
	if near := config.Nearest(name, known); near != "" {
		return usage(whole+" "+near, "unknown command %q", name)
	}
	return usage(whole+" --help; the commands are "+strings.Join(known, ", "), "unknown command %q", name)
}

var (
	notDefined = regexp.MustCompile(`^flag provided but not defined: -+(.+)$`)
	noValue    = regexp.MustCompile(`^flag needs an argument: -+(.+)$`)
	notBoolean = regexp.MustCompile(`^invalid boolean value "(.*)" for -+([^:]+): `)
	badValue   = regexp.MustCompile(`^invalid value "(.*)" for flag -+([^:]+): `)
)

// badFlag puts the flag package's errors into our words. They have no types to tell them apart.
func badFlag(c *cli.Context, err error, _ bool) error {
	help := c.Command.HelpName + " --help"
	text := err.Error()
	if m := notDefined.FindStringSubmatch(text); m != nil {
		var known []string
		for _, flag := range c.Command.Flags {
			known = append(known, flag.Names()...)
		}
		if near := config.Nearest(m[1], known); near != "" {
			return usage("--"+near, "unknown flag --%s", m[1])
		}
		return usage(help, "unknown flag --%s", m[1])
	}
	if m := noValue.FindStringSubmatch(text); m != nil {
		return usage(help, "--%s needs a value", m[1])
	}
	if m := notBoolean.FindStringSubmatch(text); m != nil {
		return usage(fmt.Sprintf("--%s, or --%s=false", m[2], m[2]), "--%s: %q is neither true nor false", m[2], m[1])
	}
	if m := badValue.FindStringSubmatch(text); m != nil {
		return usage(help, "--%s: %q is not a whole number", m[2], m[1])
	}
	return usage(help, "%s", text)
}

// settingFlags returns flags for the named settings, all of them where none is named, and --config.
func settingFlags(names ...string) []cli.Flag {
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"},
		Usage: "`FILE` with settings in YAML; RELAY_CONFIG names it too"}}
	for _, s := range chosen(names) {
		if s.Kind == config.Switch {
			flags = append(flags, &cli.BoolFlag{Name: s.Flag()})
			continue
		}
		flags = append(flags, &cli.StringFlag{Name: s.Flag()})
	}
	return flags
}

func chosen(names []string) []config.Setting {
	if len(names) == 0 {
		return config.Settings()
	}
	var some []config.Setting
	for _, name := range names {
		s, ok := config.Lookup(name)
		if !ok {
			panic("no setting is named " + name)
		}
		some = append(some, s)
	}
	return some
}

// load reads the configuration that the command's flags, the environment and the file give.
func (p program) load(c *cli.Context, needs config.Needs) (config.Config, error) {
	given := map[string]string{}
	for _, s := range config.Settings() {
		if c.IsSet(s.Flag()) {
			given[s.Name] = fmt.Sprint(c.Value(s.Flag()))
		}
	}
	return config.Load(config.Source{Flags: given, Environ: p.environ, File: c.String("config")}, needs)
}

// orSignal returns the signal that cut a command short in place of the error that this caused.
func orSignal(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return err
	}
	if stop, ok := errors.AsType[interrupted](context.Cause(ctx)); ok {
		return stop
	}
	return err
}
