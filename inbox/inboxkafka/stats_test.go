package inboxkafka

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/outbox-relay/relay/inbox"
)

// A key whose message fails is blocked until that message is done; the others go on meanwhile.
func TestAKeyIsBlockedUntilItsFirstMessageIsDone(t *testing.T) {
	r := newRig(t, 1)
	cfg := r.config()
	var mended atomic.Bool
	cfg.Attempts = -1
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "bad" && !mended.Load() {
			return errors.New("not now")
		}
		return nil
	}
	var transactions atomic.Int64
	cfg.Hooks.Transaction = func(_ context.Context, messages int, took time.Duration) {
		if messages != 1 || took < 0 {
			t.Errorf("a transaction of %d messages took %v", messages, took)
		}
		transactions.Add(1)
	}
	began := time.Now()
	r.sendMany(6, 0, "bad", "good")
	c := r.start(cfg)
	eventually(t, "the good key is done and the bad one is blocked", func() bool {
		s := c.Stats()
		return s.Processed == 3 && len(s.Partitions) == 1 && s.Partitions[0].Blocked == 1
	})
	p := c.Stats().Partitions[0]
	if p.BlockedSince.Before(began) || p.BlockedSince.After(time.Now()) || p.Oldest.IsZero() || p.Progress.Before(began) {
		t.Errorf("the partition is %+v", p)
	}
	mended.Store(true)
	eventually(t, "nothing is blocked", func() bool {
		s := c.Stats()
		return s.Processed == 6 && s.Partitions[0].Blocked == 0 && s.Partitions[0].BlockedSince.IsZero() && s.Partitions[0].Oldest.IsZero()
	})
	if moved := c.Stats().Partitions[0].Progress; !moved.After(p.Progress) {
		t.Errorf("the watermark moved at %v, and before at %v", moved, p.Progress)
	}
	eventually(t, "a commit", func() bool { return c.Stats().Commits > 0 })
	if s := c.Stats(); s.Group != "billing" || s.CommitsFailed != 0 || s.Pauses != 0 || transactions.Load() < 6 {
		t.Errorf("the consumer is %+v after %d transactions", s, transactions.Load())
	}
}

// What is parked is counted in the database, for all processes.
func TestParkedKeysAreAmongTheStats(t *testing.T) {
	r := newRig(t, 1)
	if _, err := r.inbox.Park(t.Context(), inbox.Message{Topic: topic, Key: []byte("a"), ID: "1", Source: "shop"},
		inbox.CausePermanent, 1, errors.New("no")); err != nil {
		t.Fatal(err)
	}
	c := r.start(r.config())
	eventually(t, "the count", func() bool { return !c.Stats().ParkedRead.IsZero() })
	s := c.Stats()
	if s.ParkedKeys != 1 || s.ParkedRead.Sub(s.ParkedSince) != time.Minute {
		t.Errorf("%d keys are parked, since %v at %v; want one since a minute", s.ParkedKeys, s.ParkedSince, s.ParkedRead)
	}
}
