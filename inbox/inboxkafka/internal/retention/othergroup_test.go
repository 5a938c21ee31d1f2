package retention

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxloop"
)

// claims are those of others.
type claims []inboxloop.OtherClaim

func (c *claims) Claim(context.Context, time.Duration, ...string) ([]inboxloop.OtherClaim, error) {
	return *c, nil
}

func (c *claims) Sweep(context.Context) (inbox.Swept, error) { return inbox.Swept{}, nil }

// Only a group that reads the same topic, and works now, shares the marks.
func TestOnlyAGroupThatReadsTheSameTopicNowIsTold(t *testing.T) {
	var log strings.Builder
	store := &claims{
		{Claimant: "another/orders", Age: 119 * time.Minute},
		{Claimant: "of/a/path/stock", Age: time.Second},
		{Claimant: "given-up/orders", Age: 121 * time.Minute},
		{Claimant: "elsewhere/prices", Age: time.Second},
		{Claimant: "orders", Age: time.Second},
	}
	k := Keeper{Options: Options{
		Group: "this", Topics: []string{"orders", "stock"}, Retention: Forever, SweepInterval: time.Hour, Store: store,
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
		Persist: func(ctx context.Context, _ string, run func(context.Context) error) error { return run(ctx) },
	}}
	want := func(when string, groups ...string) {
		t.Helper()
		if err := k.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, group := range groups {
			if !strings.Contains(log.String(), "other_group="+group+" ") {
				t.Errorf("%s: nothing is said of %s: %s", when, group, log.String())
			}
		}
		if n := strings.Count(log.String(), "other_group="); n != len(groups) {
			t.Errorf("%s: %d groups are told, want %d: %s", when, n, len(groups), log.String())
		}
		log.Reset()
	}
	want("at the start", "another", "of/a/path")
	want("when nothing was repeated since")
	k.claimed = k.claimed.Add(-time.Hour)
	*store = append(*store, inboxloop.OtherClaim{Claimant: "later/orders", Age: 59 * time.Minute})
	want("after an hour", "of/a/path", "later")
}
