package inboxkafka

import (
	"context"
	"errors"
	"slices"

	"github.com/outbox-relay/relay/inbox/inboxkafka/internal/schedule"
	"github.com/outbox-relay/relay/inbox/internal/transact"

	"github.com/outbox-relay/relay/inbox"
)

// intakeBatch is how many messages are looked up at once.
const intakeBatch = 1000

// takeIn is the way of a partition's records into the queues of their keys, in order, from its
// assignment to its revocation. It opens the partition's session first, and looks messages up if
// that is worth a query: those that were handled before are done here, and of those that a crash
// may be about it learns how often they were begun.
func (c *Consumer) takeIn(p *schedule.Partition) {
	defer close(p.IntakeDone)
	var crashed bool
	err := c.persist(p.Intake, "open the session of a partition", func(ctx context.Context) (err error) {
		crashed, err = c.store.Open(ctx, p.Topic, p.Number)
		return err
	})
	if err != nil {
		return
	}
	if crashed {
		careful := c.sched.NoteCrash(p)
		c.log.Warn("the process before did not end well; its messages are begun with care",
			"topic", p.Topic, "partition", p.Number, "messages", careful)
	}
	for {
		items := c.sched.Arrivals(p, intakeBatch)
		if len(items) == 0 {
			select {
			case <-p.Arrived:
				continue
			case <-p.Intake.Done():
				return
			}
		}
		if items = c.passMarkers(p, items); len(items) == 0 {
			continue
		}
		if items, err = c.lookUp(p, items); err != nil {
			return
		}
		c.sched.Release(p, items)
	}
}

// passMarkers ends the markers of transactions, and returns the rest.
func (c *Consumer) passMarkers(p *schedule.Partition, items []*schedule.Item) []*schedule.Item {
	if !slices.ContainsFunc(items, func(i *schedule.Item) bool { return i.Marker }) {
		return items
	}
	rest, resume := c.sched.PassMarkers(p, items)
	if resume {
		c.balance(false)
	}
	return rest
}

// lookUp returns the messages that are to be handled. If it fails the partition is on its way out,
// and what was taken is let go.
func (c *Consumer) lookUp(p *schedule.Partition, items []*schedule.Item) ([]*schedule.Item, error) {
	var err error
	marks, careful := c.sched.LooksUp(p)
	if marks {
		items, err = c.skipSeen(p, items)
	}
	if err == nil && careful > 0 {
		err = c.countStarts(p, items, min(careful, len(items)))
	}
	if err != nil {
		c.sched.Abandon(p, items)
	}
	return items, err
}

// skipSeen ends those that were handled before, and returns the others. Once few of them were,
// nothing is looked up any more.
func (c *Consumer) skipSeen(p *schedule.Partition, items []*schedule.Item) ([]*schedule.Item, error) {
	known := withIdentity(items)
	var seen []bool
	err := c.persist(p.Intake, "look up what was handled before", func(ctx context.Context) (err error) {
		seen, err = c.store.Seen(ctx, messages(known))
		return err
	})
	if err != nil {
		return items, err
	}
	skip := make(map[*schedule.Item]bool, len(known))
	for n, i := range known {
		if seen[n] {
			skip[i] = true
		}
	}
	rest, resume, err := c.sched.Skip(p, items, skip)
	if err != nil {
		return items, err
	}
	if resume {
		c.balance(false)
	}
	for i := range skip {
		c.hooks.handled(i.Message, inbox.Duplicate, 0, 0)
	}
	return rest, nil
}

// countStarts marks the first n messages as careful, with how often each was begun.
func (c *Consumer) countStarts(p *schedule.Partition, items []*schedule.Item, n int) error {
	known := withIdentity(items[:n])
	var starts []int
	err := c.persist(p.Intake, "look up what was begun before", func(ctx context.Context) (err error) {
		starts, err = c.store.Started(ctx, messages(known))
		return err
	})
	if err != nil {
		return err
	}
	c.sched.SetCareful(p, n, known, starts)
	return nil
}

// withIdentity returns the items that have an identity.
func withIdentity(items []*schedule.Item) []*schedule.Item {
	for _, i := range items {
		if i.Unidentified == nil {
			continue
		}
		var known []*schedule.Item
		for _, i := range items {
			if i.Unidentified == nil {
				known = append(known, i)
			}
		}
		return known
	}
	return items
}

func messages(items []*schedule.Item) []inbox.Message {
	m := make([]inbox.Message, len(items))
	for n, i := range items {
		m[n] = i.Message
	}
	return m
}

// persist runs something that needs the database until it succeeds or ctx ends. While the database
// is unavailable the consumer pauses.
func (c *Consumer) persist(ctx context.Context, what string, run func(context.Context) error) error {
	for failures := 0; ; {
		if err := c.sched.AwaitBreaker(ctx); err != nil {
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
		if err := transact.Pause(ctx, wait); err != nil {
			return err
		}
	}
}
