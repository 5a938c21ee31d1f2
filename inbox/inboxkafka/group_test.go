package inboxkafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/inbox"
)

// callCount counts calls of handlers by message.
type callCount struct {
	mu    sync.Mutex
	calls map[string]int
}

func (c *callCount) add(m inbox.Message) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[string]int{}
	}
	c.calls[m.ID]++
	return c.calls[m.ID]
}

// A partition that goes to another process while its messages are in flight is given back once they
// are done, with their offset; nothing is handled twice. Both ways to rebalance.
func TestRevocationWithWorkInFlight(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{
		"cooperative": kgo.CooperativeStickyBalancer(), "eager": kgo.RangeBalancer(),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			var calls callCount
			begun, release := make(chan struct{}, 1000), make(chan struct{})
			cfg := r.config()
			cfg.Balancers = []kgo.GroupBalancer{balancer}
			cfg.CommitInterval = time.Hour // only revocation and the end commit
			cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
				calls.add(m)
				begun <- struct{}{}
				<-release
				return nil
			}
			for p := range int32(2) {
				r.sendMany(40, p, key(p, 0), key(p, 1))
			}
			first := r.start(cfg)
			for range 4 { // both keys of both partitions are in flight
				<-begun
			}
			second := r.start(cfg)
			eventually(t, "a partition on its way out", func() bool { return len(first.sched.Assigned()) < 2 })
			if n := len(second.Stats().Partitions); n != 0 {
				t.Errorf("the second process has %d partitions while the first one works on them", n)
			}
			close(release)
			r.awaitEffects()
			eventually(t, "a partition each", func() bool {
				return len(first.Stats().Partitions) == 1 && len(second.Stats().Partitions) == 1
			})
			for _, p := range []*process{first, second} {
				if err := p.end(); err != nil {
					t.Error(err)
				}
			}
			for id, n := range calls.calls {
				if n != 1 {
					t.Errorf("message %s was handled %d times", id, n)
				}
			}
			for p := range int32(2) {
				if got := r.committed(p); got != 40 {
					t.Errorf("partition %d: offset %d is committed, want 40", p, got)
				}
			}
		})
	}
}

// A handler that does not end keeps its partition for the drain timeout, and then it goes without
// that message's offset.
func TestRevocationDoesNotWaitForEver(t *testing.T) {
	r := newRig(t, 2)
	var calls callCount
	cfg := r.config()
	cfg.DrainTimeout = 100 * time.Millisecond
	cfg.Handler = func(ctx context.Context, _ pgx.Tx, m inbox.Message) error {
		if calls.add(m) == 1 && (string(m.Payload) == "0" || string(m.Payload) == "20") {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	r.sendMany(20, 0, "a")
	r.sendMany(20, 1, "b")
	first := r.start(cfg)
	eventually(t, "both partitions in flight", func() bool { return first.Stats().InFlight == 2 })
	second := r.start(cfg)
	eventually(t, "one partition's effects", func() bool { return r.inbox.count() == 20 })
	if err := first.end(); !errors.Is(err, ErrDrain) {
		t.Errorf("Run returned %v, want ErrDrain", err)
	}
	r.awaitEffects()
	if err := second.end(); err != nil {
		t.Error(err)
	}
	if len(r.inbox.parked) != 0 {
		t.Errorf("parked: %+v", r.inbox.parked)
	}
}

// What the group takes away without notice is not committed for, and not worked on; the next
// assignment begins at the group's offset.
func TestLostPartitions(t *testing.T) {
	r := newRig(t, 1)
	var calls callCount
	cut := make(chan struct{}, 1)
	cfg := r.config()
	cfg.Handler = func(ctx context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Payload) == "10" && calls.add(m) == 1 {
			cut <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}
	var lost atomic.Int64
	cfg.Hooks.Revoked = func(_ context.Context, _ string, _ int32, gone bool) {
		if gone {
			lost.Add(1)
		}
	}
	r.sendMany(10, 0, "a")
	c := r.start(cfg)
	eventually(t, "the first ones", func() bool { return r.committed(0) == 10 })
	r.sendMany(10, 0, "a")
	<-cut
	r.cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp, ok := req.ResponseKind().(*kmsg.HeartbeatResponse)
		if !ok {
			return nil, fmt.Errorf("response of %T", req), true
		}
		resp.ErrorCode = kerr.UnknownMemberID.Code
		return resp, nil, true
	})
	eventually(t, "the loss", func() bool { return lost.Load() == 1 })
	r.awaitEffects()
	eventually(t, "the offset", func() bool { return r.committed(0) == 20 })
	if err := c.end(); err != nil {
		t.Fatal(err)
	}
}

// Processes come and go under load; every message has its effect once and in order, whichever
// process had it.
func TestRebalancesUnderLoad(t *testing.T) {
	r := newRig(t, 6)
	cfg := r.config()
	cfg.CommitInterval = 5 * time.Millisecond
	stay := r.start(cfg)
	_ = stay
	for round := range 5 {
		other := r.start(cfg)
		for p := range int32(6) {
			r.sendMany(100, p, key(p, 0), key(p, 1), key(p, 2))
		}
		if round%2 == 0 {
			eventually(t, "some partitions", func() bool { return len(other.Stats().Partitions) > 0 })
		}
		if err := other.end(); err != nil {
			t.Fatal(err)
		}
	}
	r.awaitEffects()
	for p := range int32(6) {
		eventually(t, "the last offset", func() bool { return r.committed(p) == 500 })
	}
}
