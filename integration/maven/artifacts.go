package maven

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/outbox-relay/relay/internal/cache"
	"github.com/outbox-relay/relay/internal/pinned"
)

// Artifacts are what the dependencies of a project come to.
type Artifacts struct {
	// Name and Version are those of the folder in the cache, and of errors.
	Name, Version string
	// POM is the project, whose dependencies are fetched.
	POM []byte
	// Digests are those of all that is fetched, as package pinned reads them.
	Digests string
	// Files are written beside what is fetched, by their names. Default to none.
	Files map[string][]byte
	// Finish does what remains with the folder when all was compared, such as unpacking an archive.
	// Defaults to nothing.
	Finish func(dir string) error
}

// Folder returns the folder that holds the artifacts. They are fetched once.
func (a Artifacts) Folder(ctx context.Context) (string, error) {
	digests, err := pinned.Parse(a.Digests)
	if err != nil {
		return "", err
	}
	// The name changes with the digests, so what is in the cache was compared with these.
	return cache.Folder(ctx, a.Name+"-"+a.Version+"-"+digests.Of(), func(ctx context.Context, dir string) error {
		return a.fetchPinned(ctx, dir, digests)
	})
}

// fetchPinned fetches the artifacts and compares them.
func (a Artifacts) fetchPinned(ctx context.Context, dir string, digests pinned.Digests) error {
	if err := Fetch(ctx, a.POM, dir); err != nil {
		return fmt.Errorf("fetch %s %s: %w", a.Name, a.Version, err)
	}
	if err := digests.Folder(dir, Suffixes...); err != nil {
		return fmt.Errorf("fetch %s %s: %w; after a change of pom.xml, go run ./integration/pins writes the digests again",
			a.Name, a.Version, err)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Files)) {
		if err := os.WriteFile(filepath.Join(dir, name), a.Files[name], 0o644); err != nil {
			return err
		}
	}
	if a.Finish == nil {
		return nil
	}
	if err := a.Finish(dir); err != nil {
		return fmt.Errorf("make %s %s ready: %w", a.Name, a.Version, err)
	}
	return nil
}

// Suffixes are those of the names of artifacts.
var Suffixes = []string{".jar", ".tar.gz"}

// Fetch writes the dependencies of a project into a folder, and compares nothing.
func Fetch(ctx context.Context, pom []byte, dir string) error {
	maven, err := program(ctx)
	if err != nil {
		return err
	}
	project := filepath.Join(dir, "pom.xml")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(project, pom, 0o644)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, maven, "--batch-mode", "--quiet", "--file", project,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	if home, err := os.UserHomeDir(); err == nil {
		// Java takes the home folder from the account, not from HOME, and an account may have none.
		cmd.Env = append(os.Environ(), "MAVEN_OPTS="+os.Getenv("MAVEN_OPTS")+" -Duser.home="+home)
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run Maven: %w\n%s\nallow this machine to reach Maven Central, or name a mirror "+
			"in Maven's settings.xml", err, output)
	}
	return nil
}
