package inboxkafka

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// What is held in the process stays within its bounds, however much waits in the topic.
func TestHeldRecordsAreBounded(t *testing.T) {
	for name, set := range map[string]func(*settings){
		"records": func(c *settings) { c.MaxRecords = 100 },
		"bytes":   func(c *settings) { c.MaxBytes = 256 << 10 },
		"one":     func(c *settings) { c.MaxRecords = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 3)
			cfg := r.config()
			set(&cfg)
			release := make(chan struct{})
			cfg.Handler = func(context.Context, pgx.Tx, inbox.Message) error { <-release; return nil }
			for p := range int32(3) {
				var records []*kgo.Record
				for range 200 {
					record := r.record(p, key(p, 0))
					record.Headers = append(record.Headers, kgo.RecordHeader{Key: "fill", Value: bytes.Repeat([]byte("x"), 4000)})
					records = append(records, record)
				}
				r.send(records...)
			}
			var c *process
			var mostRecords, mostBytes atomic.Int64
			cfg.Hooks.Handled = func(context.Context, inbox.Message, inbox.Result, int, time.Duration) {
				s := c.Stats()
				mostRecords.Store(max(mostRecords.Load(), int64(s.Held)))
				mostBytes.Store(max(mostBytes.Load(), s.HeldBytes))
			}
			c = r.start(cfg)
			full := c.cfg
			eventually(t, "the bound", func() bool {
				s := c.Stats()
				if s.Held > full.MaxRecords || s.HeldBytes > full.MaxBytes {
					t.Fatalf("%d records of %d bytes are held", s.Held, s.HeldBytes)
				}
				return name == "bytes" && s.HeldBytes > full.MaxBytes/2 || name != "bytes" && 2*s.Held >= full.MaxRecords
			})
			close(release)
			r.awaitEffects()
			if mostRecords.Load() > int64(full.MaxRecords) || mostBytes.Load() > full.MaxBytes {
				t.Errorf("%d records, %d bytes were held", mostRecords.Load(), mostBytes.Load())
			}
		})
	}
}

// A key that waits holds its own partition back at the bound, and no other one.
func TestWaitingKeyHoldsBackItsPartitionOnly(t *testing.T) {
	r := newRig(t, 2)
	cfg := r.config()
	cfg.MaxRecords, cfg.Attempts = 100, -1
	var mended atomic.Bool
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "ill" && !mended.Load() {
			return errors.New("not yet")
		}
		return nil
	}
	r.sendMany(1, 0, "ill")
	r.sendMany(1000, 0, "a", "b", "c")
	r.sendMany(1000, 1, "d", "e", "f")
	c := r.start(cfg)
	eventually(t, "the other partition", func() bool { return r.committed(1) == 1000 })
	eventually(t, "the pause", func() bool {
		for _, p := range c.Stats().Partitions {
			if p.Partition == 0 && p.Paused {
				return true
			}
		}
		return false
	})
	if n := len(r.inbox.ofKeys()["a"]); n > 100 {
		t.Errorf("%d messages of a key behind the ill one were done: the window is not bounded", n)
	}
	mended.Store(true)
	r.awaitEffects()
	eventually(t, "the end of the pause", func() bool { return r.committed(0) == 1001 })
}

// A key that waits with many its own messages does not take the room of other partitions.
func TestLongQueueOfOneKeyLeavesRoomForOthers(t *testing.T) {
	r := newRig(t, 3)
	cfg := r.config()
	cfg.MaxRecords, cfg.Attempts = 90, -1
	var mended atomic.Bool
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "ill" && !mended.Load() {
			return errors.New("not yet")
		}
		return nil
	}
	r.sendMany(500, 0, "ill")
	c := r.start(cfg)
	eventually(t, "a full partition", func() bool { s := c.Stats(); return len(s.Partitions) == 3 && s.Held > 40 })
	r.sendMany(500, 1, "d", "e", "f")
	r.sendMany(500, 2, "g", "h")
	eventually(t, "the other partitions", func() bool { return r.committed(1) == 500 && r.committed(2) == 500 })
	mended.Store(true)
	r.awaitEffects()
}
