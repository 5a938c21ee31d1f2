package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
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

	"github.com/outbox-relay/relay/internal/process"
)

// errPortTaken says that a broker could not listen: somebody took its port after we had found it
// free.
var errPortTaken = errors.New("a port was taken meanwhile")

// node is one server of a cluster, broker and controller.
type node struct {
	id      int
	address string
	further []string // addresses of Options.Listeners
	dir     string
	jars    string
	java    []string         // arguments
	process *process.Process // nil before the first launch
}

// configure chooses ports, writes the settings of every node and formats its storage.
func (c *Cluster) configure(ctx context.Context) error {
	further := len(c.options.Listeners)
	ports, err := freePorts((2 + further) * c.options.Brokers)
	if err != nil {
		return err
	}
	brokerPorts, controllerPorts := ports[:c.options.Brokers], ports[c.options.Brokers:2*c.options.Brokers]
	ports = ports[2*c.options.Brokers:]
	var voters []string
	for i, port := range controllerPorts {
		voters = append(voters, fmt.Sprintf("%d@127.0.0.1:%d", i+1, port))
	}
	for i, port := range brokerPorts {
		n := &node{
			id: i + 1, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			dir: filepath.Join(c.dir, strconv.Itoa(i+1)), jars: c.jars, java: c.java,
		}
		c.nodes = append(c.nodes, n)
		c.Bootstrap = append(c.Bootstrap, n.address)
		settings := c.settings()
		settings["node.id"] = strconv.Itoa(n.id)
		settings["controller.quorum.voters"] = strings.Join(voters, ",")
		settings["listeners"] = fmt.Sprintf("CLIENTS://%s,CONTROLLERS://127.0.0.1:%d", n.address, controllerPorts[i])
		n.listen(c.options.Listeners, ports[i*further:(i+1)*further], settings)
		settings["log.dirs"] = n.data()
		maps.Copy(settings, c.options.Properties)
		if err := n.writeSettings(settings); err != nil {
			return err
		}
	}
	return c.format(ctx)
}

// settings are those that all nodes share.
func (c *Cluster) settings() map[string]string {
	replicas := min(c.options.Brokers, 3)
	inSync := strconv.Itoa(max(1, replicas-1))
	factor := strconv.Itoa(replicas)
	return map[string]string{
		"process.roles":                            "broker,controller",
		"controller.listener.names":                "CONTROLLERS",
		"inter.broker.listener.name":               "CLIENTS",
		"listener.security.protocol.map":           "CLIENTS:PLAINTEXT,CONTROLLERS:PLAINTEXT",
		"auto.create.topics.enable":                "false",
		"num.partitions":                           "6",
		"default.replication.factor":               factor,
		"min.insync.replicas":                      inSync,
		"offsets.topic.num.partitions":             "4",
		"offsets.topic.replication.factor":         factor,
		"transaction.state.log.num.partitions":     "4",
		"transaction.state.log.replication.factor": factor,
		"transaction.state.log.min.isr":            inSync,
		// A group of one waits for no member.
		"group.initial.rebalance.delay.ms": "0",
		// A killed broker's partitions move once its session ends: 9 s by default, a long time to wait
		// in a test.
		"broker.session.timeout.ms":    "3000",
		"broker.heartbeat.interval.ms": "500",
	}
}

// format writes what a broker wants to find in its data folder. Kafka's tool takes a second of Java
// a node and writes, but for the ids, the same each time: so it formats one node once (see quick),
// and all others are copies with their own ids.
func (c *Cluster) format(ctx context.Context) error {
	if c.quick == "" {
		_, err := c.Tool(ctx, "kafka.tools.StorageTool", "format", "-t", c.id, "-c", c.nodes[0].settingsFile())
		return err
	}
	features, err := os.ReadFile(filepath.Join(c.quick, featuresFile))
	if err != nil {
		return fmt.Errorf("format storage: %w", err)
	}
	for _, n := range c.nodes {
		meta := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", c.id, n.id, randomID())
		err := errors.Join(
			os.MkdirAll(n.data(), 0o755),
			os.WriteFile(filepath.Join(n.data(), "meta.properties"), []byte(meta), 0o644),
			os.WriteFile(filepath.Join(n.data(), featuresFile), features, 0o644))
		if err != nil {
			return fmt.Errorf("format storage: %w", err)
		}
	}
	return nil
}

func (n *node) data() string         { return filepath.Join(n.dir, "data") }
func (n *node) settingsFile() string { return filepath.Join(n.dir, "server.properties") }
func (n *node) logFile() string      { return filepath.Join(n.dir, "server.log") }

func (n *node) writeSettings(settings map[string]string) error {
	var text bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&text, "%s=%s\n", name, settings[name])
	}
	err := os.MkdirAll(n.dir, 0o755)
	if err == nil {
		err = os.WriteFile(n.settingsFile(), text.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write the settings of node %d: %w", n.id, err)
	}
	return nil
}

// launch starts the broker's process and does not wait for it to answer.
func (n *node) launch() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of node %d: %w", n.id, err)
	}
	defer func() { _ = log.Close() }() // written by the child only
	arguments := javaArguments(n.jars, "512m", "kafka.Kafka", n.java...)
	cmd := exec.Command("java", append(arguments, n.settingsFile())...)
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = log, log
	if n.process, err = process.Start(cmd, syscall.SIGKILL); err != nil {
		return fmt.Errorf("start node %d: %w", n.id, err)
	}
	return nil
}

func (n *node) kill() error {
	if n.process == nil {
		return nil
	}
	return n.process.Kill()
}

func (n *node) shutDown(ctx context.Context) error {
	if err := n.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := n.process.Wait(ctx); err != nil && !errors.As(err, &exit) { // Java ends with 143 on SIGTERM
		return err
	}
	return nil
}

// logTail is the end of the node's log, for an error.
func (n *node) logTail() string {
	const most = 30
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return fmt.Sprintf("(the log of node %d cannot be read: %v)", n.id, err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Sprintf("the end of the log of node %d:\n  %s", n.id, strings.Join(lines[max(0, len(lines)-most):], "\n  "))
}

// portWasTaken reports whether the log says that the node could not listen.
func (n *node) portWasTaken() bool {
	text, err := os.ReadFile(n.logFile())
	return err == nil && bytes.Contains(text, []byte("Address already in use"))
}

// randomID makes an id as Kafka writes its UUIDs: 16 bytes in URL-safe base64. It may not begin
// with a dash, which the tools would take for an option.
func randomID() string {
	for {
		bytes := make([]byte, 16)
		_, _ = rand.Read(bytes) // never fails
		if id := base64.RawURLEncoding.EncodeToString(bytes); id[0] != '-' {
			return id
		}
	}
}

// freePorts returns different TCP ports of the loopback address that were free a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	var listeners []net.Listener
	var err error
	for range n {
		var listener net.Listener
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			break
		}
		listeners = append(listeners, listener)
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	for _, listener := range listeners {
		err = errors.Join(err, listener.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("find free ports: %w", err)
	}
	return ports, nil
}
