package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/outbox-relay/relay/internal/cache"
)

// Java spends most of the start of a broker on loading and compiling classes. An archive of the
// loaded classes and the plain compiler halve that: a broker answers after 2 s instead of 5 s. The
// compiler's code is slower, so a measurement of throughput does without (Options.Measured).

// archiveFile and featuresFile are the names in the folder that quick returns.
const (
	archiveFile  = "classes.jsa"
	featuresFile = "bootstrap.checkpoint"
)

// quick returns the folder with what makes brokers start sooner: the archive of classes, if this
// Java can write one, and the features as Kafka's tool writes them into a new data folder. Both are
// made once for a version of Kafka and of Java, by a broker that starts for this alone.
func quick(ctx context.Context, jars, java string) (string, error) {
	digest := sha256.Sum256([]byte(jars + java))
	return cache.Folder(ctx, fmt.Sprintf("kafka-%s-start-%x", Version, digest[:6]), func(ctx context.Context, dir string) (err error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		c := &Cluster{jars: jars, dir: filepath.Join(dir, "cluster"), id: randomID()}
		c.options = Options{Brokers: 1}
		c.java = append(plainCompiler(), "-XX:ArchiveClassesAtExit="+filepath.Join(dir, archiveFile))
		defer func() { err = errors.Join(err, c.Stop(), os.RemoveAll(c.dir)) }()
		if err := c.launchAll(ctx); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(c.nodes[0].data(), featuresFile), filepath.Join(dir, featuresFile)); err != nil {
			return err
		}
		return c.ShutDown(ctx, 1) // Java writes the archive at its end
	})
}

// plainCompiler are arguments of Java for a process that does not live long.
func plainCompiler() []string {
	return []string{
		"-XX:+IgnoreUnrecognizedVMOptions", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xlog:disable", "-Xlog:all=error:stderr",
	}
}

// quickly are arguments of Java for a process that shall start soon.
func (c *Cluster) quickly() []string {
	if c.quick == "" {
		return nil
	}
	archive := filepath.Join(c.quick, archiveFile)
	if _, err := os.Stat(archive); err != nil {
		return plainCompiler() // this Java writes no archive
	}
	return append(plainCompiler(), "-XX:SharedArchiveFile="+archive)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
