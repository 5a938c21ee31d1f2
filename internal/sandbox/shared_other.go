//go:build !linux

package sandbox

// removeShared does nothing: a killed Postgres leaves a few bytes of shared memory until the
// machine restarts.
func (p *Postgres) removeShared() error { return nil }
