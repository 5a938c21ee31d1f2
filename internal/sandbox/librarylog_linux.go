package sandbox

import (
	"os"
	"path/filepath"
	"strings"
)

// removeLibraryLog removes the log file that the embedded-postgres library makes among the
// temporary files, and leaves there unless it has stopped a server. It is found among the open
// files of this process: others use the library too.
func removeLibraryLog() {
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	prefix := filepath.Join(os.TempDir(), "embedded_postgres_log")
	for _, link := range links {
		if file, err := os.Readlink(link); err == nil && strings.HasPrefix(file, prefix) {
			_ = os.Remove(file) // an empty file that stays does no harm
		}
	}
}
