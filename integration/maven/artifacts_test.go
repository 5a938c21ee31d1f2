package maven

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/pinned"
)

// What Maven brought in the place of a jar, or of an archive, is not run.
func TestArtifactsThatAreNotThosePinnedAreRefused(t *testing.T) {
	const digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	list := digest + "  kafka.jar\n" + digest + "  plugin.tar.gz\n" + digest + "  missing.jar\n"
	digests, err := pinned.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	fake := "#!/bin/sh\nfor argument; do case $argument in -DoutputDirectory=*) " +
		"for name in kafka.jar plugin.tar.gz; do echo other > \"${argument#-DoutputDirectory=}/$name\"; done;; esac; done\n"
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	finished := false
	a := Artifacts{Name: "things", Version: "1", Digests: list, Finish: func(string) error { finished = true; return nil }}
	err = a.fetchPinned(t.Context(), dir, digests)
	for _, want := range []string{"kafka.jar is not what it should be", "plugin.tar.gz is not what it should be", "missing.jar is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if finished {
		t.Error("what was refused was made ready")
	}
}
