package inboxkafka

import (
	"errors"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// unavailable pauses the consumer, unless it is paused. A database that was unavailable and has
// come back from a crash is another matter.
func (c *Consumer) unavailable(err error) {
	if errors.Is(err, inboxloop.ErrForgotten) {
		c.sched.Forgotten()
		return
	}
	first := c.sched.Trip(c.cfg.BackoffMin, c.cfg.BackoffMax)
	if first {
		c.pauses.Add(1)
	}
	switch {
	case first && errors.Is(err, inbox.ErrOwnStatement):
		c.log.Error("paused: the inbox cannot work with its tables; nothing is lost or parked, and it tries again",
			"error", err)
		c.hooks.paused(err)
	case first:
		c.log.Warn("paused: the database, or what a handler needs, is unavailable; nothing is lost, and the group keeps "+
			"this process",
			"error", err)
		c.hooks.paused(err)
	}
}

// available ends the pause if it waits for a trial to succeed. Queries of our own say nothing about
// what handlers need, so they end it only if no message is there to try it with.
func (c *Consumer) available(handled bool) {
	if lasted, healed := c.sched.Heal(handled); healed {
		c.log.Info("resumed", "after", lasted)
		c.hooks.resumed(lasted)
	}
}

// backoff is the pause after so many failures.
func (c *Consumer) backoff(attempts int) time.Duration {
	pause := c.cfg.BackoffMin
	for ; attempts > 1 && pause < c.cfg.BackoffMax; attempts-- {
		pause *= 2
	}
	return schedule.Jitter(min(pause, c.cfg.BackoffMax))
}
