//go:build !failpoint

package main

import "context"

// withFailpoint refuses: a binary that people run must not be one that can be told to kill itself.
func withFailpoint(ctx context.Context, value string) (context.Context, error) {
	if value == "" {
		return ctx, nil
	}
	return ctx, usage("unset RELAY_FAILPOINT, or build with -tags failpoint",
		"RELAY_FAILPOINT: this binary was built without failpoints")
}
