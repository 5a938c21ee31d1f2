//go:build !linux

package sandbox

import "github.com/outbox-relay/relay/internal/process"

// killFamily kills a process. The children of a Postgres notice that their parent is gone and end
// themselves.
func killFamily(parent *process.Process) error { return parent.Kill() }
