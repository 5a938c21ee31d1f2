package cluster

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"

	"github.com/outbox-relay/relay/integration/maven"
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

// jars returns the folder that holds Kafka's jars and the settings of its log.
func jars(ctx context.Context) (string, error) {
	return maven.Artifacts{
		Name: "kafka", Version: Version, POM: pom, Digests: jarDigests, Files: map[string][]byte{loggingFile: logging},
	}.Folder(ctx)
}

// loggingFile is the name of the settings of the log, beside the jars.
const loggingFile = "logging.properties"

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
