package inboxkafka

import (
	"context"
	"time"
)

// parkedInterval is the time between two counts of the parked keys.
const parkedInterval = 10 * time.Second

// parkedKeys is what was counted last.
type parkedKeys struct {
	keys  int64
	since time.Time // when the first of them was parked; zero if there is none
	read  time.Time
}

// countParked counts the parked keys until ctx ends, for Stats. While the database is unavailable
// the last count stays.
func (c *Consumer) countParked(ctx context.Context) {
	ticker := time.NewTicker(parkedInterval)
	defer ticker.Stop()
	for {
		if c.sched.AwaitBreaker(ctx) != nil {
			return
		}
		limited, cancel := context.WithTimeout(ctx, probeTimeout)
		keys, oldest, err := c.store.Parked(limited)
		cancel()
		if err == nil {
			counted := &parkedKeys{keys: keys, read: time.Now()}
			if keys > 0 {
				counted.since = counted.read.Add(-oldest)
			}
			c.parked.Store(counted)
		} else if ctx.Err() == nil {
			c.log.Debug("the parked keys are not counted", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
