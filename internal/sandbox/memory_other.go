//go:build !linux

package sandbox

// MemoryFolder is empty: there is no folder here whose files are known to be in memory.
func MemoryFolder() string { return "" }
