package main

import (
	"fmt"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// build describes the binary; its JSON form is documented in docs/cli.md.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	Go       string `json:"go"`
}

func readBuild() build {
	b := build{Version: "unknown", Revision: "unknown", Go: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: string(outputText),
		Usage: "`FORM` of the output: text or json"}
}

func (p program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "show the version of this binary",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			form, err := parseOutput(c.String("output"))
			if err != nil {
				return err
			}
			return p.version(form)
		},
	}
}

func (p program) version(form output) error {
	b := readBuild()
	if form == outputJSON {
		return writeJSON(p.stdout, b)
	}
	revision := b.Revision
	if b.Modified {
		revision += ", modified"
	}
	_, err := fmt.Fprintf(p.stdout, "relay %s (revision %s, %s)\n", b.Version, revision, b.Go)
	return err
}
