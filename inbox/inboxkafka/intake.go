package inboxkafka

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/outbox-relay/relay/inbox"
)

// intakeBatch is how many messages are looked up at once.
const intakeBatch = 1000

// takeIn is the way of a partition's records into the queues of their keys, in order, from its
// assignment to its revocation. It opens the partition's session first, and looks messages up if
// that is worth a query: those that were handled before are done here, and of those that a crash
// may be about it learns how often they were begun.
func (c *Consumer) takeIn(p *partition) {
	defer close(p.intakeDone)
	var crashed bool
	err := c.persist(p.intake, "open the session of a partition", func(ctx context.Context) (err error) {
		crashed, err = c.store.Open(ctx, p.topic, p.number)
		return err
	})
	if err != nil {
		return
	}
	if crashed {
		// Of what that process had in flight nothing lay further from its watermark than its
		// MaxRecords, which we take to be ours: if it was larger, a message that ends the process may
		// be met unprepared once more, and is careful's the next time.
		p.careful = c.cfg.MaxRecords
		c.sched.noteCrash(p)
		c.log.Warn("the process before did not end well; its messages are begun with care",
			"topic", p.topic, "partition", p.number, "messages", p.careful)
	}
	for {
		items := c.sched.arrivals(p, intakeBatch)
		if len(items) == 0 {
			select {
			case <-p.arrived:
				continue
			case <-p.intake.Done():
				return
			}
		}
		if items = c.passMarkers(p, items); len(items) == 0 {
			continue
		}
		if items, err = c.lookUp(p, items); err != nil {
			return
		}
		c.sched.release(p, items)
	}
}

// passMarkers ends the markers of transactions, and returns the rest.
func (c *Consumer) passMarkers(p *partition, items []*item) []*item {
	if !slices.ContainsFunc(items, func(i *item) bool { return i.marker }) {
		return items
	}
	rest, resume := c.sched.passMarkers(p, items)
	if resume {
		c.balance(false)
	}
	return rest
}

// lookUp returns the messages that are to be handled. If it fails the partition is on its way out,
// and what was taken is let go.
func (c *Consumer) lookUp(p *partition, items []*item) ([]*item, error) {
	var err error
	if c.sched.looksUp(p) {
		items, err = c.skipSeen(p, items)
	}
	if err == nil && p.careful > 0 {
		err = c.countStarts(p, items)
	}
	if err != nil {
		c.sched.abandon(p, items)
	}
	return items, err
}

// skipSeen ends those that were handled before, and returns the others. Once few of them were,
// nothing is looked up any more.
func (c *Consumer) skipSeen(p *partition, items []*item) ([]*item, error) {
	known := withIdentity(items)
	var seen []bool
	err := c.persist(p.intake, "look up what was handled before", func(ctx context.Context) (err error) {
		seen, err = c.store.Seen(ctx, messages(known))
		return err
	})
	if err != nil {
		return items, err
	}
	skip := make(map[*item]bool, len(known))
	for n, i := range known {
		if seen[n] {
			skip[i] = true
		}
	}
	rest, resume, err := c.sched.skip(p, items, skip)
	if err != nil {
		return items, err
	}
	if resume {
		c.balance(false)
	}
	for i := range skip {
		c.hooks.handled(i.message, inbox.Duplicate, 0, 0)
	}
	return rest, nil
}

// countStarts marks messages as careful, with how often each was begun.
func (c *Consumer) countStarts(p *partition, items []*item) error {
	n := min(p.careful, len(items))
	known := withIdentity(items[:n])
	var starts []int
	err := c.persist(p.intake, "look up what was begun before", func(ctx context.Context) (err error) {
		starts, err = c.store.Started(ctx, messages(known))
		return err
	})
	if err != nil {
		return err
	}
	for k, i := range known {
		i.careful, i.starts = true, starts[k]
	}
	p.careful -= n
	return nil
}

// withIdentity returns the items that have an identity.
func withIdentity(items []*item) []*item {
	for _, i := range items {
		if i.unidentified == nil {
			continue
		}
		var known []*item
		for _, i := range items {
			if i.unidentified == nil {
				known = append(known, i)
			}
		}
		return known
	}
	return items
}

func messages(items []*item) []inbox.Message {
	m := make([]inbox.Message, len(items))
	for n, i := range items {
		m[n] = i.message
	}
	return m
}

// persist runs something that needs the database until it succeeds or ctx ends. While the database
// is unavailable the consumer pauses.
func (c *Consumer) persist(ctx context.Context, what string, run func(context.Context) error) error {
	for failures := 0; ; {
		if err := c.sched.awaitBreaker(ctx); err != nil {
			return err
		}
		err := run(ctx)
		switch {
		case err == nil:
			c.available(false)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case inbox.IsUnavailable(err) && !errors.Is(err, inbox.ErrOwnStatement):
			c.unavailable(err)
			continue
		}
		failures++
		wait := c.backoff(failures)
		c.log.Error("cannot "+what+"; it is tried again", "wait", wait, "error", err)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
