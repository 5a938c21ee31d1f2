package inboxkafka

import (
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/retention"
)

// ErrRetention is what Run returns if marks would be removed before their messages are gone for
// good.
var ErrRetention = retention.ErrTooShort

// KeepForever is the Retention that removes no marks.
const KeepForever time.Duration = math.MaxInt64

// keeper returns what keeps the marks of this consumer, and removes old ones.
func (c *Consumer) keeper(admin *kadm.Client) *retention.Keeper {
	return &retention.Keeper{Options: retention.Options{
		Group: c.cfg.Group, Topics: c.cfg.Topics,
		Retention: c.cfg.Retention, ReplayWindow: c.cfg.ReplayWindow, SweepInterval: c.cfg.SweepInterval,
		Store: c.store, Admin: admin, Log: c.log,
		Persist: c.persist, AwaitBreaker: c.sched.AwaitBreaker, Backoff: c.backoff,
		Refused: c.hooks.retention, Swept: c.hooks.swept,
	}}
}
