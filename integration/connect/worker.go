package connect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/internal/process"
	"github.com/outbox-relay/relay/internal/scratch"
)

// Options says what worker Start starts.
type Options struct {
	// Bootstrap are the brokers, HOST:PORT each. Required.
	Bootstrap []string

	// Name is that of the group and begins the names of the three topics of the worker, which it
	// creates. Required.
	Name string

	// Properties are settings of the worker; they win over those of this package: exactly once, and
	// topics with one replica. Default to none.
	Properties map[string]string

	// StartTimeout is how long a start may take before it is an error. Defaults to 2 minutes.
	StartTimeout time.Duration
}

// Worker is a distributed worker of Kafka Connect, the only one of its group.
type Worker struct {
	options Options
	dir     string // of the jars
	folder  *scratch.Folder
	port    int
	process *process.Process
}

// Start starts a worker and returns once it answers. The caller ends it with Stop.
func Start(ctx context.Context, options Options) (*Worker, error) {
	if options.StartTimeout == 0 {
		options.StartTimeout = 2 * time.Minute
	}
	dir, err := artifacts().Folder(ctx)
	if err != nil {
		return nil, err
	}
	w := &Worker{options: options, dir: dir}
	if w.folder, err = scratch.New("", "relay-connect-"); err != nil {
		return nil, err
	}
	if w.port, err = freePort(); err == nil {
		err = os.WriteFile(w.settingsFile(), w.settings(), 0o600)
	}
	if err == nil {
		err = w.Launch(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start Kafka Connect: %w", err), w.Stop())
	}
	return w, nil
}

// Launch starts the worker again that was killed, and returns once it answers.
func (w *Worker) Launch(ctx context.Context) error {
	log, err := os.OpenFile(w.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = log.Close() }() // written by the child only
	cmd := exec.Command("java", append(javaFlags(),
		"-Dlog4j2.configurationFile="+filepath.Join(w.dir, loggingFile),
		"-cp", filepath.Join(w.dir, "*"), "org.apache.kafka.connect.cli.ConnectDistributed", w.settingsFile())...)
	cmd.Dir = w.folder.Path
	cmd.Stdout, cmd.Stderr = log, log
	if w.process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	return w.await(ctx, "the worker answers", func(ctx context.Context) (bool, error) {
		var names []string
		err := w.call(ctx, "GET", "connectors", nil, &names)
		return err == nil, nil // not yet
	})
}

// javaFlags are those of Kafka's own script for Connect.
func javaFlags() []string {
	return []string{
		"-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
		"-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15", "-Djava.awt.headless=true", "-XX:-UsePerfData",
	}
}

func (w *Worker) settings() []byte {
	settings := map[string]string{
		"bootstrap.servers":                 strings.Join(w.options.Bootstrap, ","),
		"group.id":                          w.options.Name,
		"listeners":                         fmt.Sprintf("http://127.0.0.1:%d", w.port),
		"plugin.path":                       filepath.Join(w.dir, pluginsFolder),
		"exactly.once.source.support":       "enabled",
		"key.converter":                     "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":                   "org.apache.kafka.connect.converters.ByteArrayConverter",
		"config.storage.topic":              w.options.Name + ".configs",
		"offset.storage.topic":              w.options.Name + ".offsets",
		"status.storage.topic":              w.options.Name + ".status",
		"config.storage.replication.factor": "1",
		"offset.storage.replication.factor": "1",
		"status.storage.replication.factor": "1",
		"offset.storage.partitions":         "1",
		"status.storage.partitions":         "1",
	}
	maps.Copy(settings, w.options.Properties)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	return []byte(text.String())
}

// ID is the process id of the worker.
func (w *Worker) ID() int { return w.process.ID() }

// Kill ends the worker with SIGKILL.
func (w *Worker) Kill() error { return w.process.Kill() }

// Stop ends the worker and removes its folder. Its topics stay, see Topics.
func (w *Worker) Stop() error {
	var err error
	if w.process != nil {
		err = w.process.Kill()
	}
	return errors.Join(err, w.folder.Remove())
}

// Topics are those that the worker has created.
func (w *Worker) Topics() []string {
	return []string{w.options.Name + ".configs", w.options.Name + ".offsets", w.options.Name + ".status"}
}

// await asks until the answer is yes.
func (w *Worker) await(ctx context.Context, what string, ask func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, w.options.StartTimeout)
	defer cancel()
	for {
		yes, err := ask(ctx)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, w.logTail())
		}
		if yes {
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-w.process.Done():
			return fmt.Errorf("the worker ended with status %d\n%s", w.process.ExitCode(), w.logTail())
		case <-ctx.Done():
			return fmt.Errorf("not in time: %s: %w\n%s", what, context.Cause(ctx), w.logTail())
		}
	}
}

func (w *Worker) settingsFile() string { return filepath.Join(w.folder.Path, "worker.properties") }
func (w *Worker) logFile() string      { return filepath.Join(w.folder.Path, "worker.log") }

// logTail is the end of the worker's log, for an error.
func (w *Worker) logTail() string {
	const most = 30
	text, err := os.ReadFile(w.logFile())
	if err != nil {
		return fmt.Sprintf("(the log of Kafka Connect cannot be read: %v)", err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "the end of the log of Kafka Connect:\n  " + strings.Join(lines[max(0, len(lines)-most):], "\n  ")
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err = errors.Join(err, listener.Close()); err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return strconv.Atoi(port)
}
