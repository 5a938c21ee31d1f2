package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/outbox-relay/relay/internal/harness/child"
	"github.com/outbox-relay/relay/internal/harness/ledger"
)

// How the relay is killed.
const (
	fewestKills       = 3
	mostKills         = 12
	messagesAKill     = 40_000
	lateKillBy        = 5 * time.Millisecond   // after the messages that it was waited for
	earlyKillBy       = 600 * time.Millisecond // after the start of a relay that is killed while it starts
	sessionTimeout    = "1s"
	rowsOfTransaction = "500"
)

// kills is how often the relay is killed while it publishes that many messages.
func kills(messages int) int {
	return min(mostKills, fewestKills+messages/messagesAKill)
}

// relays runs one relay after another as a child process.
type relays struct {
	command []string
	environ []string
	ledger  *ledger.Ledger[uuid.UUID]
	gate    *gate
	events  func(string)

	mu     sync.Mutex
	killed int
}

// settings is the environment of a relay: ours without what would configure a relay or a Postgres
// client otherwise.
func settings(environ []string, databaseURL string, brokers []string) []string {
	return append(child.Environ(environ),
		"RELAY_DATABASE_URL="+databaseURL,
		"RELAY_BROKERS="+strings.Join(brokers, ","),
		"RELAY_TOPICS_CREATE=true",
		"RELAY_ADMIN=off",
		"RELAY_LOG_FORMAT=text",
		// A dead relay's successor waits for this; a real cluster asks for 6 s at least.
		"RELAY_SESSION_TIMEOUT="+sessionTimeout,
		"RELAY_RETRY_MAX=500ms",
		// A part of the time for which the group waits for its dead members when a relay joins, or
		// leaves. Small transactions: a kill then falls into the middle of one more often than between
		// two.
		"RELAY_BATCH_ROWS="+rowsOfTransaction,
	)
}

// run kills count relays at random moments while they publish, some of their successors while these
// still start, and returns the last one, which is left alone. Each kill of a relay that publishes
// opens one more slice of the gate, so that writers are never kept waiting for long, and never done
// before the last kill.
func (r *relays) run(ctx context.Context, count int) (*running, error) {
	c, err := r.start()
	if err != nil {
		return nil, err
	}
	for i := range count {
		if c, err = r.killWhilePublishing(ctx, c, i); err != nil {
			return nil, err
		}
		if i%2 == 0 {
			if c, err = r.killWhileStarting(ctx, c); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// killWhilePublishing kills c at a random point, opens the slice after the next, and starts a
// successor.
func (r *relays) killWhilePublishing(ctx context.Context, c *running, slice int) (*running, error) {
	if err := r.await(ctx, c, r.mark(slice)); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	if err := c.Live(ctx, rand.N(lateKillBy)); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	return r.replace(c, r.gate.openNext)
}

// mark draws after how many published messages the relay of a slice is killed: more than there are
// now, so that it has published some, and no more than the writers can commit before that kill.
func (r *relays) mark(slice int) int {
	before, end := r.gate.bounds(slice)
	_, most := r.gate.bounds(slice + 1) // open already
	s, _ := r.ledger.Now()
	least := max(before, s.Published)
	if spread := min(end-before, most-least); spread > 0 {
		return least + 1 + rand.IntN(spread)
	}
	return min(least, most) // a demo of very few messages
}

// killWhileStarting kills c before it may have published anything.
func (r *relays) killWhileStarting(ctx context.Context, c *running) (*running, error) {
	if err := c.Live(ctx, rand.N(earlyKillBy)); err != nil {
		return nil, errors.Join(err, c.Kill())
	}
	return r.replace(c, func() {})
}

// replace kills c, sees that it died of it, and starts a successor.
func (r *relays) replace(c *running, killed func()) (*running, error) {
	if err := c.Crash(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.killed++
	number := r.killed
	r.mu.Unlock()
	killed()
	s, _ := r.ledger.Now()
	when := "soon after its start"
	if s.Published > c.found {
		when = "while it published"
	}
	successor, err := r.start()
	if err != nil {
		return nil, err
	}
	r.events(fmt.Sprintf("kill %d: relay %d ended by SIGKILL %s, %s messages published, %s waiting; relay %d takes over",
		number, c.ID(), when, grouped(s.Published), grouped(s.Missing), successor.ID()))
	return successor, nil
}

// count is how many relays have been killed.
func (r *relays) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.killed
}

// await waits until so many messages are published.
func (r *relays) await(ctx context.Context, c *running, published int) error {
	for {
		s, changed := r.ledger.Now()
		if s.Published >= published {
			return nil
		}
		select {
		case <-changed:
		case <-c.Done():
			return c.EndedByItself()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// start runs a relay.
func (r *relays) start() (*running, error) {
	s, _ := r.ledger.Now()
	return run("relay", r.command, r.environ, s.Published)
}
