package inboxkafka

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
)

// A key that gets messages faster than its parked ones are retried becomes free all the same, and
// keeps its order.
func TestAParkedKeyWithMuchTrafficBecomesFree(t *testing.T) {
	const handling = 4 * time.Millisecond
	r := newRig(t, 1)
	cfg := r.config()
	cfg.Options = append(cfg.Options, kgo.FetchMaxWait(10*time.Millisecond))
	var mended atomic.Bool
	cfg.Handler = func(_ context.Context, _ pgx.Tx, m inbox.Message) error {
		if string(m.Key) == "hot" && !mended.Load() {
			return inbox.Permanent(context.Canceled)
		}
		time.Sleep(handling)
		return nil
	}
	r.start(cfg)
	r.sendMany(20, 0, "hot", "cold")
	eventually(t, "the key is parked", func() bool { return len(r.inbox.parkedMessages()) == 10 })
	mended.Store(true)
	r.inbox.ask(topic, []byte("hot"))
	deadline := time.Now().Add(patience / 3)
	for len(r.inbox.parkedMessages()) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("%d messages are parked, and it never ends", len(r.inbox.parkedMessages()))
		}
		r.sendMany(4, 0, "hot", "cold")
		time.Sleep(handling) // 2 of the hot key for each one that is handled
	}
	r.awaitEffects()
}
