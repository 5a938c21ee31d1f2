package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/config"
)

// helpTemplate returns the help of a command. The settings are in the order of the configuration's
// table with their variables and defaults, which the library's own template cannot do.
func helpTemplate(c *cli.Command) string {
	var own, settings strings.Builder
	group := ""
	for _, flag := range c.Flags {
		if visible, ok := flag.(cli.VisibleFlag); ok && !visible.IsVisible() {
			continue
		}
		s, ok := settingOf(flag)
		if !ok {
			writeFlag(&own, flag)
			continue
		}
		if s.Group != group {
			group = s.Group
			fmt.Fprintf(&settings, "\n   %s\n", group)
		}
		if own, ok := flag.(*cli.StringFlag); ok && own.Usage != "" {
			s.Help = own.Usage
		}
		writeSetting(&settings, s)
	}
	text := "NAME:\n   {{.HelpName}} - {{.Usage}}\n\nUSAGE:\n   {{.UsageText}}\n"
	if c.Description != "" {
		text += "\nDESCRIPTION:\n" + indent(c.Description) + "\n"
	}
	if c.Subcommands != nil {
		text += "\nCOMMANDS:\n" + commandLines(c.Subcommands)
	}
	text += "\nFLAGS:\n" + own.String() + "   --help, -h\n       show this text\n"
	if settings.Len() > 0 {
		text += "\nSETTINGS: flag, environment variable, default\n" + settings.String()
	}
	return text
}

// commandLines lists subcommands of a command that does something by itself.
func commandLines(commands []*cli.Command) string {
	var lines strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&lines, "   %s  %s\n", c.Name, c.Usage)
	}
	return lines.String()
}

func settingOf(flag cli.Flag) (config.Setting, bool) {
	return config.Lookup(settingNames()[flag.Names()[0]])
}

// settingNames maps flags to the names of settings.
func settingNames() map[string]string {
	names := map[string]string{}
	for _, s := range config.Settings() {
		names[s.Flag()] = s.Name
	}
	return names
}

func writeFlag(to *strings.Builder, flag cli.Flag) {
	var names []string
	for _, name := range flag.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		names = append(names, dashes+name)
	}
	documented, ok := flag.(cli.DocGenerationFlag)
	if !ok {
		panic("a flag without a text: " + flag.Names()[0])
	}
	argument, text := "", documented.GetUsage()
	// The library's own notation: the name of the argument is in backticks.
	if parts := strings.Split(text, "`"); len(parts) == 3 {
		argument, text = " "+parts[1], parts[0]+parts[1]+parts[2]
	}
	fmt.Fprintf(to, "   %s%s\n       %s\n", strings.Join(names, ", "), argument, text)
}

func writeSetting(to *strings.Builder, s config.Setting) {
	argument := " " + strings.ToUpper(string(s.Kind))
	if s.Kind == config.Switch {
		argument = ""
	}
	fmt.Fprintf(to, "     %-38s  $%s", "--"+s.Flag()+argument, s.Env())
	if s.Default != "" {
		fmt.Fprintf(to, "  %s", s.Default)
	}
	fmt.Fprintf(to, "\n         %s", s.Help)
	if s.Choices != nil {
		fmt.Fprintf(to, ": %s", strings.Join(s.Choices, ", "))
	}
	fmt.Fprintln(to)
}

func indent(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = "   " + line
		}
	}
	return strings.Join(lines, "\n")
}
