//go:build !linux

package pg

import "syscall"

// boundUnacknowledged does nothing if the system has no such option; keepalives and time limits
// remain.
func boundUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
