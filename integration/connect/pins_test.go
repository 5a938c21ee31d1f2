package connect

import (
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/pinned"
)

// The versions that worker.go and pom.xml name are among the digests.
func TestTheArtifactsArePinned(t *testing.T) {
	list, err := pinned.Parse(digests)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"connect-runtime-" + Version + ".jar", "connect-json-" + Version + ".jar", pluginArchive} {
		if list[name] == "" {
			t.Errorf("no digest of %s; go run ./integration/pins", name)
		}
	}
	for _, version := range []string{Version, DebeziumVersion} {
		if !strings.Contains(string(pom), "<version>"+version+"</version>") {
			t.Errorf("pom.xml does not name version %s", version)
		}
	}
}
