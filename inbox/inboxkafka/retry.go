package inboxkafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/internal/transact"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// mostRetried bounds the keys that are retried at once.
const mostRetried = 4

// mostRetried is one for effects: their retry holds a connection of the pool while it takes another
// one, and several could hold all of them and wait.
func (c *Consumer) mostRetried() int {
	if c.store.mode() == atMostOnce {
		return 1
	}
	return mostRetried
}

// retryLoop asks for parked keys that somebody wants to be retried, and handles their messages in
// order, while new ones of the key come in and are parked behind. All processes ask; the first one
// that takes a key keeps the others off it.
func (c *Consumer) retryLoop(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	var mu sync.Mutex
	busy := map[int64]bool{}
	ticker := time.NewTicker(c.cfg.RetryInterval)
	defer ticker.Stop()
	foreign := 0
	for {
		var keys []inboxloop.ParkedKey
		err := c.persist(ctx, "look for parked messages to retry", func(ctx context.Context) (err error) {
			keys, err = c.store.Requested(ctx, 4*mostRetried+foreign)
			return err
		})
		if err != nil {
			return
		}
		own := c.ofTopics(keys)
		if others := len(keys) - len(own); others > foreign {
			c.log.Info("retries are asked for in other topics than those of this consumer; they wait for the one that has "+
				"them", "keys", others)
		}
		foreign = len(keys) - len(own) // they take no room in the next answer
		for _, key := range own {
			mu.Lock()
			begin := !busy[key.ID] && len(busy) < c.mostRetried()
			if begin {
				busy[key.ID] = true
			}
			mu.Unlock()
			if !begin {
				continue
			}
			running.Go(func() {
				c.retry(ctx, key)
				mu.Lock()
				defer mu.Unlock()
				delete(busy, key.ID)
			})
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// ofTopics returns the keys of our topics: another Consumer whose inbox has the same name has the
// handler for the others.
func (c *Consumer) ofTopics(keys []inboxloop.ParkedKey) []inboxloop.ParkedKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key inboxloop.ParkedKey) bool {
		return !slices.Contains(c.cfg.Topics, key.Topic)
	})
}

// retry handles the messages of a key until none is left, one fails for good, or ctx ends.
func (c *Consumer) retry(ctx context.Context, key inboxloop.ParkedKey) {
	defer c.sched.FreeKey(key.Topic, key.Key)
	var taken schedule.Slot
	var accused int64
	for failures := 0; ; {
		var ok bool
		if taken, ok = c.sched.Enter(ctx, taken); !ok {
			return
		}
		// In flight it has as long as others have when the process is asked to end.
		var raised atomic.Bool
		r, err := c.store.retry(c.handling, key, &raised)
		c.sched.Leave(taken)
		switch {
		case err == nil:
			if r.Result == inbox.Processed {
				c.sched.Processed(taken.Turn)
			}
			c.available(true)
			failures = 0
			if !c.retried(r) {
				return
			}
			// All that was parked when the retry began is handled. What is left has come in meanwhile,
			// and no more of it may, or a key with much traffic would never be free.
			if key.Key != nil && r.Row >= key.Last {
				c.sched.HoldKey(key.Topic, key.Key)
			}
			continue
		case c.handling.Err() != nil:
			return
		case inbox.IsUnavailable(err):
			if raised.Load() && c.sched.Accuse(&accused) {
				break
			}
			c.unavailable(err)
			continue
		case errors.Is(err, inbox.ErrTimeout):
			if err := c.probe(ctx); err != nil {
				c.unavailable(err)
				continue
			}
			c.available(true)
		default:
			c.available(true)
		}
		c.sched.FreeKey(key.Topic, key.Key) // the wait may be long: what comes in is parked meanwhile
		failures++
		wait := c.backoff(failures)
		c.hooks.retried(r.Message, inbox.Failed, err)
		c.log.Warn("parked message failed again", "topic", key.Topic, "msg_id", r.Message.ID, "failures", failures,
			"error", err)
		if inbox.IsPermanent(err) || c.cfg.Attempts > 0 && failures >= c.cfg.Attempts {
			c.endRetry(ctx, key, err)
			return
		}
		if transact.Pause(ctx, wait) != nil {
			return
		}
	}
}

// retried takes a step's result, and reports whether there is another one.
func (c *Consumer) retried(r inboxloop.Retried) bool {
	if r.Busy {
		return false // another process has it
	}
	c.retries.Add(1)
	c.hooks.retried(r.Message, r.Result, nil)
	return r.Left
}

// endRetry gives a request up. The message stays parked, and its key with it.
func (c *Consumer) endRetry(ctx context.Context, key inboxloop.ParkedKey, why error) {
	c.retriesFailed.Add(1)
	err := c.persist(ctx, "record that a retry failed", func(ctx context.Context) error {
		return c.store.RetryFailed(ctx, key, why)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		c.log.Error("the retry stays asked for", "topic", key.Topic, "error", err)
	}
}
