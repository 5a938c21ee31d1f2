//go:build release

package main

import (
	"github.com/urfave/cli/v2"

	"github.com/outbox-relay/relay/internal/hint"
)

// demoCommands are in the place of the demo: what it starts, a Postgres that it downloads and a
// simulated broker, does not belong on the machines that a release is for.
func (p program) demoCommands() []*cli.Command {
	return []*cli.Command{{
		Name:  "demo",
		Usage: "not in this release: it needs the source",
		Action: func(*cli.Context) error {
			return hint.New("this binary was built without the demo, which brings its own servers",
				"go run ./cmd/relay demo, in a clone of github.com/outbox-relay/relay")
		},
	}}
}
