package connect

import (
	"context"
	_ "embed"
	"errors"
	"os"
	"path/filepath"

	"github.com/outbox-relay/relay/integration/maven"
)

// Version is the release of Kafka Connect, DebeziumVersion that of the connector.
const (
	Version         = "4.3.1"
	DebeziumVersion = "3.7.0.Final"
)

//go:embed pom.xml
var pom []byte

//go:embed jars.sha256
var digests string

//go:embed logging.properties
var logging []byte

const (
	loggingFile   = "logging.properties"
	pluginsFolder = "plugins"
	pluginArchive = "debezium-connector-postgres-" + DebeziumVersion + "-plugin.tar.gz"
)

// artifacts are the jars of Kafka Connect, and a folder of plugins with Debezium in it.
func artifacts() maven.Artifacts {
	return maven.Artifacts{
		Name: "connect", Version: Version, POM: pom, Digests: digests, Files: map[string][]byte{loggingFile: logging},
		Finish: unpackPlugin,
	}
}

func unpackPlugin(dir string) error {
	archive, err := os.Open(filepath.Join(dir, pluginArchive))
	if err != nil {
		return err
	}
	err = maven.Unpack(archive, filepath.Join(dir, pluginsFolder))
	return errors.Join(err, archive.Close())
}

// Fetch fetches Kafka Connect and Debezium if they are not in the cache yet.
func Fetch(ctx context.Context) error {
	_, err := artifacts().Folder(ctx)
	return err
}
