package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/outbox-relay/relay/internal/sandbox"
	"github.com/outbox-relay/relay/internal/scratch"
)

// Variable names the bootstrap servers of a Kafka that is there already, separated by commas.
const Variable = "RELAY_TEST_BROKERS"

// ShortSessions are properties that let a consumer that was killed be given up after a second or
// two: 6 s is the least by default.
var ShortSessions = map[string]string{"group.min.session.timeout.ms": "1000"}

// Options says what cluster Start starts. The zero value works.
type Options struct {
	// Brokers is how many nodes there are: 1, or 3 for what needs replication. Defaults to 1.
	Brokers int

	// Properties are settings of every broker, such as message.max.bytes; they win over the harness's
	// own.
	Properties map[string]string

	// Listeners are further listeners for clients, such as one with TLS. Defaults to none.
	Listeners []Listener

	// Dir is where data and logs lie; it is kept by Stop. Defaults to a temporary folder that Stop
	// removes; in memory, unless Measured, if sandbox.MemoryFolder has room.
	Dir string

	// Measured starts brokers as Kafka's own scripts do, for measurements of throughput. Defaults to
	// a Java that starts sooner and runs slower.
	Measured bool

	// StartTimeout is how long a start may take before it is an error. Defaults to 2 minutes.
	StartTimeout time.Duration
}

// Cluster is a running Kafka cluster. Its methods are safe for concurrent use.
type Cluster struct {
	// Bootstrap are the addresses of the nodes, HOST:PORT each, in the order of their ids.
	Bootstrap []string

	options Options
	jars    string
	quick   string   // folder, see quick; empty while that is being made
	java    []string // arguments of Java for a broker
	dir     string
	scratch *scratch.Folder // nil where Options.Dir named one
	id      string

	mu    sync.Mutex
	nodes []*node // node id - 1
}

// Start starts a cluster on free ports and returns once every broker knows every other. The caller
// ends it with Stop.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.Brokers == 0 {
		options.Brokers = 1
	}
	if options.Brokers < 0 {
		return nil, fmt.Errorf("start Kafka: %d brokers", options.Brokers)
	}
	if options.StartTimeout == 0 {
		options.StartTimeout = 2 * time.Minute
	}
	base, err := prepare(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, options.StartTimeout)
	defer cancel()
	const tries = 3
	for try := 1; ; try++ {
		c, err := start(ctx, options, base)
		if err == nil || try == tries || !errors.Is(err, errPortTaken) {
			return c, err
		}
	}
}

// prepare returns a cluster without nodes: Kafka is there, and what makes it start sooner.
func prepare(ctx context.Context) (*Cluster, error) {
	java, err := checkJava(ctx)
	if err != nil {
		return nil, err
	}
	libraries, err := jars(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := quick(ctx, libraries, java)
	if err != nil {
		return nil, err
	}
	return &Cluster{jars: libraries, quick: folder}, nil
}

// Named returns a cluster that somebody else has started, for its addresses and tools. It has no
// nodes to kill.
func Named(ctx context.Context, bootstrap []string) (*Cluster, error) {
	c, err := prepare(ctx)
	if err != nil {
		return nil, err
	}
	c.Bootstrap = bootstrap
	return c, nil
}

// start tries to start a cluster, once.
func start(ctx context.Context, options Options, base *Cluster) (*Cluster, error) {
	c := &Cluster{options: options, jars: base.jars, quick: base.quick, dir: options.Dir, id: randomID()}
	c.java = c.quickly()
	if options.Measured {
		c.java = []string{"-XX:+UseG1GC"}
	}
	var err error
	if c.dir == "" {
		parent := ""
		if !options.Measured {
			parent = sandbox.MemoryFolder()
		}
		if c.scratch, err = scratch.New(parent, "relay-kafka-"); err != nil {
			return nil, fmt.Errorf("make folder for Kafka: %w", err)
		}
		c.dir = c.scratch.Path
	}
	if err := c.launchAll(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start Kafka: %w", err), c.Stop())
	}
	return c, nil
}

// launchAll starts every node and waits until they know each other.
func (c *Cluster) launchAll(ctx context.Context) error {
	if err := c.configure(ctx); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.launch(); err != nil {
			return err
		}
	}
	return c.await(ctx, c.nodes)
}

// Stop ends every broker and removes the data, unless Options.Dir named the folder. A second call
// does nothing.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for _, n := range c.nodes {
		err = errors.Join(err, n.kill()) // the data is not read again
	}
	if c.scratch != nil {
		err = errors.Join(err, c.scratch.Remove())
	}
	return err
}

// Kill ends a broker with SIGKILL. Nodes are numbered from 1.
func (c *Cluster) Kill(id int) error {
	return c.with(id, (*node).kill)
}

// ShutDown stops a broker in order: it hands over what it leads first. It waits until the broker
// has ended.
func (c *Cluster) ShutDown(ctx context.Context, id int) error {
	return c.with(id, func(n *node) error { return n.shutDown(ctx) })
}

// Freeze stops a broker with SIGSTOP: its sockets stay open and nothing answers.
func (c *Cluster) Freeze(id int) error {
	return c.with(id, func(n *node) error { return n.process.Freeze() })
}

// Thaw lets a frozen broker go on.
func (c *Cluster) Thaw(id int) error {
	return c.with(id, func(n *node) error { return n.process.Thaw() })
}

// Revive starts a broker again that was killed or shut down, on the same data and port, and returns
// once it and every other broker that runs know each other.
func (c *Cluster) Revive(ctx context.Context, id int) error {
	ctx, cancel := context.WithTimeout(ctx, c.options.StartTimeout)
	defer cancel()
	err := c.with(id, func(n *node) error {
		if n.process.Alive() {
			return errors.New("it runs")
		}
		return n.launch()
	})
	if err != nil {
		return fmt.Errorf("revive node %d: %w", id, err)
	}
	c.mu.Lock()
	var running []*node
	for _, n := range c.nodes {
		if n.process.Alive() {
			running = append(running, n)
		}
	}
	c.mu.Unlock()
	if err := c.await(ctx, running); err != nil {
		return fmt.Errorf("revive node %d: %w", id, err)
	}
	return nil
}

// with calls do on a node under the lock.
func (c *Cluster) with(id int, do func(*node) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id < 1 || id > len(c.nodes) {
		return fmt.Errorf("find node %d: the cluster has the nodes 1 to %d", id, len(c.nodes))
	}
	return do(c.nodes[id-1])
}

// Tool runs one of Kafka's own command line tools by its Java class, such as
// org.apache.kafka.tools.TopicCommand, and returns what it wrote to standard output. The tool is
// not told if the cluster is: most take --bootstrap-server.
func (c *Cluster) Tool(ctx context.Context, class string, args ...string) ([]byte, error) {
	return c.ToolInput(ctx, nil, class, args...)
}

// ToolInput is Tool for one that reads its standard input, such as the console producer.
func (c *Cluster) ToolInput(ctx context.Context, input io.Reader, class string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "java", append(javaArguments(c.jars, "256m", class, c.quickly()...), args...)...)
	cmd.Stdin = input
	output, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return output, fmt.Errorf("run %s: %w\n%s%s", class, err, output, exit.Stderr)
	}
	if err != nil {
		return output, fmt.Errorf("run %s: %w", class, err)
	}
	return output, nil
}

// javaArguments are those of a Java process that runs a class of Kafka with a heap of the given
// size.
func javaArguments(jars, heap, class string, more ...string) []string {
	return append(more, []string{
		"-Xmx" + heap, "-Xms" + heap, "-Djava.awt.headless=true", "-XX:-UsePerfData",
		"-Dlog4j2.configurationFile=" + filepath.Join(jars, loggingFile),
		"-cp", filepath.Join(jars, "*"), class,
	}...)
}

// BootstrapServers are the addresses as Kafka's own tools take them, separated by commas.
func (c *Cluster) BootstrapServers() string { return strings.Join(c.Bootstrap, ",") }
