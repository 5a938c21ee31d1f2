package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outbox-relay/relay/internal/process"
)

// takenOver is what a relay logs when it begins to publish.
const takenOver = "lane taken over"

// stopTimeout is how long a relay may take to end in order.
const stopTimeout = 30 * time.Second

// child is a running relay.
type child struct {
	process *process.Process
	log     *childLog
}

// startRelay runs a relay on the place that publishes to the topic, and returns once it has taken its lane over. It dies
// with this process, whatever becomes of that.
func startRelay(ctx context.Context, cfg Config, p *place, topic string) (*child, error) {
	output, input, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the relay: %w", err)
	}
	cmd := exec.Command(cfg.Relay[0], cfg.Relay[1:]...)
	cmd.Env = slices.Concat(cfg.Environ, []string{
		"RELAY_DATABASE_URL=" + p.url, "RELAY_BROKERS=" + strings.Join(cfg.Brokers, ","), "RELAY_NAME=" + p.name,
		"RELAY_ROUTE=" + topic, "RELAY_BATCH_ROWS=" + strconv.Itoa(cfg.Batch),
		"RELAY_COMPRESSION=" + cfg.Compression, "RELAY_PARTITIONER=" + cfg.Partitioner,
		"RELAY_ADMIN=off", "RELAY_LOG_FORMAT=json",
		"RELAY_TOPICS_ALLOW=relay-bench-*", // each rate has a topic, which its rows name
	})
	cmd.Stderr = input
	running, err := process.Start(cmd, syscall.SIGKILL)
	if closeErr := input.Close(); err == nil && closeErr != nil {
		err = errors.Join(closeErr, running.Kill())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the relay: %w", err), output.Close())
	}
	c := &child{process: running, log: follow(output)}
	select {
	case <-c.log.ready:
		return c, nil
	case <-time.After(cfg.StartTimeout):
		err = fmt.Errorf("the relay has not taken its lane over within %v", cfg.StartTimeout)
	case <-running.Done():
		err = errors.New("the relay ended by itself")
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), running.Kill())
	}
	return nil, errors.Join(err, running.Kill(), c.log.quote())
}

// lives is an error where the relay has ended.
func (c *child) lives() error {
	if c.process.Alive() {
		return nil
	}
	return errors.Join(errors.New("the relay ended by itself"), c.log.quote())
}

// stop lets the relay end in order.
func (c *child) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := c.process.Signal(syscall.SIGTERM)
	if err == nil {
		err = c.process.Wait(ctx)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("stop the relay: %w", err), c.process.Kill(), c.log.quote())
	}
	return nil
}

// childLog keeps the end of what a relay logs.
type childLog struct {
	ready chan struct{} // closed once the lane is taken over
	done  chan struct{} // closed at the end of the output

	mu    sync.Mutex
	lines []string
}

const keptLines = 12

func follow(output io.ReadCloser) *childLog {
	l := &childLog{ready: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		lines := bufio.NewScanner(output)
		lines.Buffer(nil, 1<<20)
		ready := false
		for lines.Scan() {
			if !ready && strings.Contains(lines.Text(), takenOver) {
				ready = true
				close(l.ready)
			}
			l.add(lines.Text())
		}
		if err := lines.Err(); err != nil {
			l.add(fmt.Sprintf("(the rest of the log cannot be read: %v)", err))
		}
		_ = output.Close() // read only
	}()
	return l
}

func (l *childLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == keptLines {
		l.lines = l.lines[1:]
	}
	l.lines = append(l.lines, line)
}

// quote waits for the end of the output and returns its last lines, as an error.
func (l *childLog) quote() error {
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Errorf("the end of its log:\n  %s", strings.Join(l.lines, "\n  "))
}
