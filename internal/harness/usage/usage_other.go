//go:build !linux

package usage

// Of knows nothing on this system.
func Of(int) (Usage, error) { return Usage{}, nil }

// Family knows nothing on this system.
func Family(int) (Usage, error) { return Usage{}, nil }
