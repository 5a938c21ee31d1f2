package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/outbox-relay/relay/internal/harness/child"
)

// takenOver is what a relay logs when it begins to publish.
const takenOver = "lane taken over"

// startRelay runs a relay on the place that publishes to the topic, and returns once it has taken
// its lane over. It dies with this process, whatever becomes of that.
func startRelay(ctx context.Context, cfg Config, p *place, topic string) (*child.Child, error) {
	cmd := exec.Command(cfg.Relay[0], cfg.Relay[1:]...)
	cmd.Env = slices.Concat(cfg.Environ, []string{
		"RELAY_DATABASE_URL=" + p.url, "RELAY_BROKERS=" + strings.Join(cfg.Brokers, ","), "RELAY_NAME=" + p.name,
		"RELAY_ROUTE=" + topic, "RELAY_BATCH_ROWS=" + strconv.Itoa(cfg.Batch),
		"RELAY_COMPRESSION=" + cfg.Compression, "RELAY_PARTITIONER=" + cfg.Partitioner,
		"RELAY_ADMIN=off", "RELAY_LOG_FORMAT=json",
		"RELAY_TOPICS_ALLOW=relay-bench-*", // each rate has a topic, which its rows name
	})
	c, err := child.Start("relay", cmd, takenOver)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.Ready():
		return c, nil
	case <-time.After(cfg.StartTimeout):
		return nil, c.Failed(fmt.Errorf("the relay has not taken its lane over within %v", cfg.StartTimeout))
	case <-c.Done():
		return nil, c.EndedByItself()
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), c.Kill())
	}
}

// lives is an error if the relay has ended.
func lives(c *child.Child) error {
	if c.Alive() {
		return nil
	}
	return c.EndedByItself()
}
