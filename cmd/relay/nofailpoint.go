//go:build !failpoint

package main

import "github.com/outbox-relay/relay/internal/relay"

// failpoint refuses: a binary that people run must not be one that can be told to kill itself.
func failpoint(value string) (func(relay.Step), error) {
	if value == "" {
		return nil, nil
	}
	return nil, usage("unset RELAY_FAILPOINT, or build with -tags failpoint", "RELAY_FAILPOINT: this binary was built without failpoints")
}
