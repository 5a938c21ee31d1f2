//go:build !linux

package pg

import "syscall"

// boundUnacknowledged does nothing where the system has no such option; keepalives and time limits remain.
func boundUnacknowledged(_, _ string, _ syscall.RawConn) error { return nil }
