package cluster

import (
	"regexp"
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
