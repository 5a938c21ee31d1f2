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

// StartRelay runs a relay of a deployment on a database, as cfg says how, and returns once it has
// taken its lane over. Rows that name no topic go to topic; those that do may name any that begins
// with relay-bench-. It dies with this process, whatever becomes of that.
func StartRelay(ctx context.Context, cfg Config, databaseURL, deployment, topic string) (*child.Child, error) {
	cfg = cfg.WithDefaults()
	cmd := exec.Command(cfg.Relay[0], cfg.Relay[1:]...)
	cmd.Env = slices.Concat(cfg.Environ, []string{
		"RELAY_DATABASE_URL=" + databaseURL, "RELAY_BROKERS=" + strings.Join(cfg.Brokers, ","), "RELAY_NAME=" + deployment,
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
