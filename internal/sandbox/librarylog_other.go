//go:build !linux

package sandbox

// removeLibraryLog does nothing: if a process cannot list its open files, the library's log stays
// among the temporary files.
func removeLibraryLog() {}
