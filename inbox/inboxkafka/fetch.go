package inboxkafka

import (
	"context"
	"errors"
	"time"

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
		if c.sched.toRewind() && ctx.Err() == nil {
			c.rewind(ctx)
			continue
		}
		if most == 0 {
			return
		}
		polling, stop := c.sched.pollContext(ctx)
		fetches := c.client.PollRecords(polling, most)
		stop()
		if ctx.Err() == nil {
			c.enter(fetches)
			fetches.EachError(func(_ string, _ int32, err error) {
				if large, ok := errors.AsType[*kgo.ErrDecompressTooLarge](err); ok {
					c.passTooLarge(large)
				}
			})
		}
		c.client.AllowRebalance()
		c.reportErrors(ctx, fetches)
		if fetches.IsClientClosed() {
			return
		}
	}
}

// awaitRoom waits until records may be polled, and returns how many; 0 is the end.
func (c *Consumer) awaitRoom(ctx context.Context) int {
	for {
		most, stuck := c.sched.awaitRoom(ctx, c.largest)
		if !stuck {
			return most
		}
		c.balance(true)
	}
}

// awaitRoom is Consumer.awaitRoom, but returns when it has waited for so long that a partition may be why.
func (s *scheduler) awaitRoom(ctx context.Context, largest int64) (most int, stuck bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	late := false
	var stop func() bool
	for !s.draining && !s.rewinding && ctx.Err() == nil && !late {
		if most := s.allowance(largest); most > 0 {
			return most, false
		}
		if stop == nil {
			stop = s.after(stuckAfter, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				late = true
				s.room.Signal()
			})
			defer stop()
		}
		s.room.Wait()
	}
	return 0, late && !s.draining && !s.rewinding && ctx.Err() == nil
}

// stuckAfter is how long a partition's watermark stands still until it is taken for stuck: a key of it waits, or its handler takes long.
const stuckAfter = 500 * time.Millisecond

func (p *partition) stuck(now time.Time) bool {
	return p.tracker.window() > 0 && now.Sub(p.moved) >= stuckAfter
}

// limits are how much may be held now. A quarter is kept back for the case that a partition is stuck and holds all the rest: then
// it is paused, and the others get a half of what was kept back, and so on with a second one.
func (s *scheduler) limits() (records int, bytes int64) {
	if len(s.partitions) < 2 {
		return s.maxHeld, s.maxBytes
	}
	back := min(2+len(s.paused), 62)
	return s.maxHeld - s.maxHeld>>back, s.maxBytes - s.maxBytes>>back
}

// allowance is how many records may come in without any bound being passed, where none is larger than the largest lately.
func (s *scheduler) allowance(largest int64) int {
	records, bytes := s.limits()
	most := min(records-s.held, mostPolled)
	if s.gate.state == shut || most <= 0 {
		return 0
	}
	if s.held > 0 {
		most = min(most, int((bytes-s.bytes)/largest))
	} else {
		most = min(most, max(1, int(bytes/largest)))
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
		from, gone := c.sched.enterAll(f, items)
		c.reportDeleted(f.Topic, f.Partition, from, gone)
	})
}

// enterAll hands the records of a partition to it, and tells how many before them were deleted unread.
func (s *scheduler) enterAll(f kgo.FetchTopicPartition, items []*item) (from, gone int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.partitions[place{f.Topic, f.Partition}]
	if p == nil || p.closed {
		return 0, 0
	}
	for n, i := range items {
		r := f.Records[n]
		s.hold(p, i, r.Offset, r.Offset, r.LeaderEpoch)
	}
	p.start, p.stable = max(p.start, f.LogStartOffset), max(p.stable, f.LastStableOffset)
	p.arrive(items)
	return s.deleted(f)
}

// hold counts an item among what is held, and gives it a place in the tracker. It stands for the offsets from first to last.
func (s *scheduler) hold(p *partition, i *item, first, last int64, epoch int32) {
	if p.tracker.window() == 0 {
		p.moved = time.Now()
	}
	if !p.entered {
		p.entered, p.from = true, position{first, -1}
	}
	i.place = p.tracker.addRange(first, last, epoch)
	s.held++
	p.held++
	s.bytes += i.bytes
	p.bytes += i.bytes
}

// arrive hands items to the intake of the partition.
func (p *partition) arrive(items []*item) {
	p.incoming = append(p.incoming, items...)
	select {
	case p.arrived <- struct{}{}:
	default:
	}
}

func (c *Consumer) newItem(r *kgo.Record) *item {
	if r.Attrs.IsControl() {
		return &item{marker: true, bytes: itemOverhead}
	}
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
		if errors.Is(err, kgo.ErrMaxDecompress) {
			return // passTooLarge tells of it
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

// balance stops fetching from partitions that are stuck and hold too much, and goes on with those that do not any more.
//
// It is not done lightly: the client throws away what it has of a paused partition and fetches it once more, and a partition
// that is resumed waits for the fetch that is under way without it. So partitions are paused only where polls have waited for room
// for a while, and never one that only has much to do.
func (c *Consumer) balance(waited bool) {
	// Two at once could tell the client the older decision last.
	c.balancing.Lock()
	defer c.balancing.Unlock()
	s := c.sched
	pause, resume := map[string][]int32{}, map[string][]int32{}
	s.mu.Lock()
	for _, p := range s.tooFull(waited) {
		p.paused = true
		s.paused[p] = struct{}{}
		pause[p.topic] = append(pause[p.topic], p.number)
	}
	for p := range s.paused {
		if !p.closed && s.eased(p) {
			p.paused = false
			delete(s.paused, p)
			resume[p.topic] = append(resume[p.topic], p.number)
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

// tooFull returns the partitions to pause: stuck ones at the end of their window, or with more than half a share, or else the
// fullest of them.
func (s *scheduler) tooFull(waited bool) (full []*partition) {
	if !waited || s.gate.state == shut {
		return nil
	}
	now := time.Now()
	var fullest *partition
	for _, p := range s.partitions {
		if p.closed || p.paused || !p.stuck(now) {
			continue
		}
		if 8*p.tracker.window() >= 7*s.maxHeld || s.overHalfShare(p) {
			full = append(full, p)
		} else if fullest == nil || p.held > fullest.held {
			fullest = p
		}
	}
	if len(full) == 0 && fullest != nil && len(s.partitions) > 1 {
		full = append(full, fullest)
	}
	return full
}

func (s *scheduler) overHalfShare(p *partition) bool {
	shares := len(s.partitions)
	return shares > 1 && (2*p.held*shares > s.maxHeld || 2*p.bytes*int64(shares) > s.maxBytes)
}

// eased reports whether a paused partition may be fetched again.
func (s *scheduler) eased(p *partition) bool {
	roomy := 4*s.held < s.maxHeld && 4*s.bytes < s.maxBytes
	return 2*p.tracker.window() < s.maxHeld && (roomy || !s.overHalfShare(p) && !p.stuck(time.Now()))
}
