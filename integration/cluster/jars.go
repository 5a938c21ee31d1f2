package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/outbox-relay/relay/internal/cache"
	"github.com/outbox-relay/relay/internal/pinned"
)

// Version is the release of Apache Kafka that is started.
const Version = "4.3.1"

// oldestJava is the oldest release of Java that this Kafka runs on.
const oldestJava = 17

//go:embed pom.xml
var pom []byte

//go:embed jars.sha256
var jarDigests string

//go:embed logging.properties
var logging []byte

// jars returns the folder that holds Kafka's jars and the settings of its log. They are fetched
// with Maven once, and compared with the digests in jars.sha256.
func jars(ctx context.Context) (string, error) {
	digests, err := pinned.Parse(jarDigests)
	if err != nil {
		return "", err
	}
	// The name changes with the digests, so what is in the cache was compared with these.
	return cache.Folder(ctx, "kafka-"+Version+"-"+digests.Of(), func(ctx context.Context, dir string) error {
		return fetchPinned(ctx, dir, digests)
	})
}

// fetchPinned fetches the jars and compares them.
func fetchPinned(ctx context.Context, dir string, digests pinned.Digests) error {
	if err := fetch(ctx, dir); err != nil {
		return err
	}
	if err := digests.Folder(dir, ".jar"); err != nil {
		return fmt.Errorf("fetch Kafka %s: %w; after a change of pom.xml, go run ./integration/pins writes the digests again", Version, err)
	}
	return nil
}

func fetch(ctx context.Context, dir string) error {
	maven, err := maven(ctx)
	if err != nil {
		return err
	}
	project := filepath.Join(dir, "pom.xml")
	err = errors.Join(
		os.WriteFile(project, pom, 0o644),
		os.WriteFile(filepath.Join(dir, "logging.properties"), logging, 0o644))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, maven, "--batch-mode", "--quiet", "--file", project,
		"dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory="+dir)
	if home, err := os.UserHomeDir(); err == nil {
		// Java takes the home folder from the account, not from HOME, and an account may have none.
		cmd.Env = append(os.Environ(), "MAVEN_OPTS="+os.Getenv("MAVEN_OPTS")+" -Duser.home="+home)
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("fetch Kafka %s with Maven: %w\n%s\nallow this machine to reach Maven Central, or name a mirror "+
			"in Maven's settings.xml", Version, err, output)
	}
	return nil
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// checkJava returns what Java says of its version.
func checkJava(ctx context.Context) (string, error) {
	const hint = "install Java 17 or later (for example: apt-get install default-jre-headless)"
	output, err := exec.CommandContext(ctx, "java", "-version").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run Java: %w; %s", err, hint)
	}
	match := javaVersion.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("run Java: its version is not understood: %s; %s", bytes.TrimSpace(output), hint)
	}
	if major, err := strconv.Atoi(string(match[1])); err != nil || major < oldestJava {
		return "", fmt.Errorf("run Java: version %s is too old for Kafka %s; %s", match[1], Version, hint)
	}
	return string(output), nil
}
