package cluster

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/pinned"
)

// Every version that pom.xml names is among the digests, so a change of one without the other is
// seen without a fetch.
func TestTheJarsArePinned(t *testing.T) {
	digests, err := pinned.Parse(jarDigests)
	if err != nil {
		t.Fatal(err)
	}
	dependencies := regexp.MustCompile(`<artifactId>([^<]+)</artifactId>\s*<version>([^<]+)</version>\s*</dependency>`).FindAllSubmatch(pom, -1)
	if len(dependencies) < 4 {
		t.Fatalf("%d dependencies were read from pom.xml", len(dependencies))
	}
	for _, d := range dependencies {
		if jar := string(d[1]) + "-" + string(d[2]) + ".jar"; digests[jar] == "" {
			t.Errorf("no digest of %s; go run ./integration/pins", jar)
		}
	}
}

// What Maven brought in the place of a jar is not run.
func TestJarsThatAreNotThosePinnedAreRefused(t *testing.T) {
	digests, err := pinned.Parse(jarDigests)
	if err != nil {
		t.Fatal(err)
	}
	bin, dir := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	fake := "#!/bin/sh\nfor argument; do case $argument in -DoutputDirectory=*) echo other > \"${argument#-DoutputDirectory=}/kafka_2.13-" + Version + ".jar\";; esac; done\n"
	if err := os.WriteFile(filepath.Join(bin, "mvn"), []byte(fake), 0o755); err != nil {
		t.Fatal(err)
	}
	err = fetchPinned(t.Context(), dir, digests)
	if err == nil || !strings.Contains(err.Error(), "kafka_2.13-"+Version+".jar is not what it should be") || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("got %v", err)
	}
}
