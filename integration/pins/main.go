// Command pins fetches every archive of Postgres and every jar of Kafka and Kafka Connect that the demo and the tests
// may fetch, with Maven, and writes their digests into internal/sandbox/postgres.sha256 and
// integration/{cluster,connect}/jars.sha256. Run it in the root of the repository after a change of versions,
// and look at what has changed: a digest of a release that was there before must stay the same.
//
// An archive that cannot be had keeps the digest that it has, and is named.
package main

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"

	"github.com/outbox-relay/relay/integration/maven"
	"github.com/outbox-relay/relay/internal/pinned"
)

const postgresList = "internal/sandbox/postgres.sha256"

// projects are the folders with a pom.xml, whose dependencies are fetched, and the list of their
// digests.
var projects = []string{"integration/cluster", "integration/connect"}

// platforms are those for which Postgres is fetched, in the words of the archives' makers.
var platforms = []string{"linux-amd64", "linux-arm64v8", "linux-amd64-alpine", "darwin-amd64", "darwin-arm64v8"}

var releases = []embeddedpostgres.PostgresVersion{
	embeddedpostgres.V14, embeddedpostgres.V15, embeddedpostgres.V16, embeddedpostgres.V17, embeddedpostgres.V18,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := pin(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pins:", err)
		os.Exit(1)
	}
}

func pin(ctx context.Context) (err error) {
	folder, err := os.MkdirTemp("", "relay-pins-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	lists := map[string]pinned.Digests{}
	for _, project := range projects {
		lists[project+"/jars.sha256"], err = artifacts(ctx, project, filepath.Join(folder, filepath.Base(project)))
		if err != nil {
			return err
		}
	}
	if lists[postgresList], err = postgres(ctx, folder); err != nil {
		return err
	}
	for name, list := range lists {
		err = errors.Join(err, os.WriteFile(name, []byte(list.String()), 0o644))
	}
	return err
}

// artifacts returns the digests of what the dependencies of a project come to.
func artifacts(ctx context.Context, project, folder string) (pinned.Digests, error) {
	pom, err := os.ReadFile(filepath.Join(project, "pom.xml"))
	if err == nil {
		err = maven.Fetch(ctx, pom, folder)
	}
	if err != nil {
		return nil, err
	}
	digests := pinned.Digests{}
	for _, suffix := range maven.Suffixes {
		files, err := filepath.Glob(filepath.Join(folder, "*"+suffix))
		if err != nil {
			return nil, err
		}
		for _, name := range files {
			file, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			digest, err := pinned.Sum(file)
			if err := errors.Join(err, file.Close()); err != nil {
				return nil, err
			}
			digests[filepath.Base(name)] = digest
		}
	}
	if len(digests) == 0 {
		return nil, fmt.Errorf("nothing was fetched for %s", project)
	}
	return digests, nil
}

// postgres returns the digests of the archives of Postgres. Each is in a jar.
func postgres(ctx context.Context, folder string) (pinned.Digests, error) {
	old := pinned.Digests{}
	if list, err := os.ReadFile(postgresList); err == nil && len(list) > 0 {
		if old, err = pinned.Parse(string(list)); err != nil {
			return nil, err
		}
	}
	digests := pinned.Digests{}
	for _, release := range releases {
		for _, platform := range platforms {
			artifact := "embedded-postgres-binaries-" + platform
			archive := fmt.Sprintf("%s-%s.txz", artifact, release)
			coordinates := fmt.Sprintf("io.zonky.test.postgres:%s:%s:jar", artifact, release)
			err := copyArtifact(ctx, "dependency:copy", "-Dartifact="+coordinates, "-DoutputDirectory="+folder)
			if err == nil {
				digests[archive], err = digestIn(filepath.Join(folder, fmt.Sprintf("%s-%s.jar", artifact, release)))
			}
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return nil, err
			}
			delete(digests, archive)
			maps.Copy(digests, only(old, archive))
			fmt.Fprintf(os.Stderr, "pins: %s could not be had: %v\n", archive, err)
		}
	}
	return digests, nil
}

func only(digests pinned.Digests, name string) pinned.Digests {
	if digest, found := digests[name]; found {
		return pinned.Digests{name: digest}
	}
	return nil
}

// digestIn returns the digest of the archive inside a jar.
func digestIn(jar string) (digest string, err error) {
	files, err := zip.OpenReader(jar)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	for _, file := range files.File {
		if !strings.HasSuffix(file.Name, ".txz") {
			continue
		}
		content, err := file.Open()
		if err != nil {
			return "", err
		}
		digest, err = pinned.Sum(content)
		return digest, errors.Join(err, content.Close())
	}
	return "", fmt.Errorf("%s holds no archive", jar)
}

func copyArtifact(ctx context.Context, args ...string) error {
	output, err := exec.CommandContext(ctx, "mvn", append([]string{"--batch-mode", "--quiet"}, args...)...).CombinedOutput()
	if err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(output)), "\n")
		return fmt.Errorf("mvn: %w: %s", err, first)
	}
	return nil
}
