package inboxkafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kgo"
)

// mostPolled bounds the records of one poll, so that they are handed out before the next partition has to wait.
const mostPolled = 2000

// fetch polls and hands out records until ctx ends.
//
// A rebalance may come at any moment. Were it to run between a poll and the moment its records are entered, records of a
// partition that was revoked could be entered into the same partition assigned again: behind others that are not here yet, which the
// watermark would pass. So the client blocks rebalances from a poll that returned records until AllowRebalance
// (kgo.BlockRebalanceOnPoll), which comes as soon as they are entered, not when they are handled; and it drops what it holds of
// revoked partitions itself. While nothing is polled, since enough is held or the database is away, nothing blocks a rebalance,
// and heartbeats come from another goroutine of the client.
func (c *Consumer) fetch(ctx context.Context) {
	defer c.client.AllowRebalance()
	for {
		most := c.awaitRoom(ctx)
		if most == 0 {
			return
		}
		fetches := c.client.PollRecords(ctx, most)
		if ctx.Err() == nil {
			c.enter(fetches)
		}
		c.client.AllowRebalance()
		c.reportErrors(ctx, fetches)
		if fetches.IsClientClosed() {
			return
		}
		c.balance()
	}
}

// awaitRoom waits until records may be polled, and returns how many; 0 is the end.
func (c *Consumer) awaitRoom(ctx context.Context) int {
	s := c.sched
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.draining && ctx.Err() == nil {
		if most := s.allowance(c.largest); most > 0 {
			return most
		}
		s.room.Wait()
	}
	return 0
}

// allowance is how many records may come in without any bound being passed, where none is larger than the largest lately.
func (s *scheduler) allowance(largest int64) int {
	most := min(s.maxHeld-s.held, mostPolled)
	if s.gate.state == shut || most <= 0 {
		return 0
	}
	if s.held > 0 {
		most = min(most, int((s.maxBytes-s.bytes)/largest))
	} else {
		most = min(most, max(1, int(s.maxBytes/largest)))
	}
	for _, p := range s.partitions {
		if !p.paused && !p.closed {
			most = min(most, s.maxHeld-p.tracker.window())
		}
	}
	return max(most, 0)
}

// enter hands what was polled to its partitions.
func (c *Consumer) enter(fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if len(f.Records) == 0 {
			return
		}
		items := make([]*item, len(f.Records))
		for n, r := range f.Records {
			items[n] = c.newItem(r)
			c.largest = max(c.largest*15/16, items[n].bytes)
		}
		s := c.sched
		s.mu.Lock()
		defer s.mu.Unlock()
		p := s.partitions[place{f.Topic, f.Partition}]
		if p == nil || p.closed {
			return
		}
		for n, i := range items {
			i.place = p.tracker.add(f.Records[n].Offset, f.Records[n].LeaderEpoch)
			s.held++
			p.held++
			s.bytes += i.bytes
			p.bytes += i.bytes
		}
		p.stable = f.LastStableOffset
		p.incoming = append(p.incoming, items...)
		select {
		case p.arrived <- struct{}{}:
		default:
		}
	})
}

func (c *Consumer) newItem(r *kgo.Record) *item {
	m, err := identify(r, c.cfg.Identify)
	i := &item{message: m, unidentified: err, bytes: int64(len(r.Key) + len(r.Value) + itemOverhead)}
	for _, h := range r.Headers {
		i.bytes += int64(len(h.Key) + len(h.Value))
	}
	return i
}

// itemOverhead is about what a record takes besides its bytes.
const itemOverhead = 512

// reportErrors tells of what a person should know. The client goes on by itself with whatever it can.
func (c *Consumer) reportErrors(ctx context.Context, fetches kgo.Fetches) {
	fetches.EachError(func(topic string, partition int32, err error) {
		if ctx.Err() != nil || errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) {
			return
		}
		if _, ok := errors.AsType[*kgo.ErrGroupSession](err); ok {
			return // groupErrors tells of it
		}
		if lost, ok := errors.AsType[*kgo.ErrDataLoss](err); ok {
			c.log.Error("the topic has lost records that this group had not read yet, or the log was cut back",
				"topic", topic, "partition", partition, "error", lost)
		} else {
			c.log.Warn("fetch failed; it is tried again", "topic", topic, "partition", partition, "error", err)
		}
		c.hooks.fetchError(topic, partition, err)
	})
}

// balance stops fetching from partitions that hold more than they may, and goes on with those that do not any more.
//
// A partition stops at seven eighths of its bound, so that the rest is room for the others' polls. Where a half of all that may
// be held is held, it also stops if it holds more than its share: a partition with a slow key does not take the room of the others.
func (c *Consumer) balance() {
	// Two at once could tell the client the older decision last.
	c.balancing.Lock()
	defer c.balancing.Unlock()
	s := c.sched
	pause, resume := map[string][]int32{}, map[string][]int32{}
	s.mu.Lock()
	for at, p := range s.partitions {
		switch full, eased := s.full(p), s.eased(p); {
		case p.closed:
		case !p.paused && full:
			p.paused = true
			s.paused[p] = struct{}{}
			pause[at.topic] = append(pause[at.topic], at.number)
		case p.paused && eased:
			p.paused = false
			delete(s.paused, p)
			resume[at.topic] = append(resume[at.topic], at.number)
		}
	}
	s.room.Signal()
	s.mu.Unlock()
	if len(pause) > 0 {
		c.client.PauseFetchPartitions(pause)
	}
	if len(resume) > 0 {
		c.client.ResumeFetchPartitions(resume)
	}
}

func (s *scheduler) full(p *partition) bool {
	shares := len(s.partitions)
	return 8*p.tracker.window() >= 7*s.maxHeld ||
		shares > 1 && 2*s.held > s.maxHeld && p.held*shares > s.maxHeld ||
		shares > 1 && 2*s.bytes > s.maxBytes && p.bytes*int64(shares) > s.maxBytes
}

func (s *scheduler) eased(p *partition) bool {
	shares := len(s.partitions)
	return 2*p.tracker.window() < s.maxHeld &&
		(2*p.held*shares < s.maxHeld || 4*s.held < s.maxHeld) &&
		(2*p.bytes*int64(shares) < s.maxBytes || 4*s.bytes < s.maxBytes)
}
