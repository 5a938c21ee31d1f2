package relay

import (
	"context"
	"sync"
	"testing"
	"time"

	public "github.com/outbox-relay/relay"
	"github.com/outbox-relay/relay/integration/kit"
)

// embedded is a relay in this process, with the lane's states as its hook was told them.
type embedded struct {
	mu     sync.Mutex
	states []public.State
	rows   int
	stop   context.CancelFunc
	done   chan error
}

func embed(t *testing.T, config public.Config) *embedded {
	t.Helper()
	e := &embedded{done: make(chan error, 1)}
	config.Hooks = public.Hooks{
		Changed: func(s public.LaneStatus) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.states = append(e.states, s.State)
		},
		Committed: func(b public.Batch) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.rows += b.Rows
		},
	}
	r, err := public.New(&config)
	if err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, e.stop = context.WithCancel(context.Background())
	go func() { e.done <- r.Run(ctx) }()
	t.Cleanup(e.stop)
	return e
}

func (e *embedded) published() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.rows
}

// A service that embeds the relay has two replicas. The one that publishes ends while events are
// written, and the other goes on: each event arrives once and in order, as it does with the
// command.
func TestAnEmbeddedRelayHandsItsLaneOver(t *testing.T) {
	t.Parallel()
	url := kit.Database(t)
	route, topic := kit.RouteOf(t)
	settings := kit.RelaySettings(t, url, kit.Brokers(t), route)
	config := public.Config{
		DatabaseURL: url, Brokers: kit.Brokers(t), Route: kit.SettingOf(settings, "RELAY_ROUTE"),
		Topics: public.Topics{Create: true, Partitions: 12}, BatchRows: 200,
	}
	load := kit.StartWorkload(t, url, 4, &kit.Workload{Pause: 10 * time.Millisecond, Open: 50 * time.Millisecond})
	first := embed(t, config)
	kit.Eventually(t, time.Minute, "the first replica publishes", func() bool { return first.published() > 100 })
	second := embed(t, config)
	first.stop()
	if err := <-first.done; err != nil {
		t.Errorf("the first replica ended with %v", err)
	}
	kit.Eventually(t, time.Minute, "the second replica goes on", func() bool { return second.published() > 100 })
	load.Stop()
	kit.AwaitPublished(t, load)
	second.stop()
	if err := <-second.done; err != nil {
		t.Errorf("the second replica ended with %v", err)
	}
	kit.Finish(t, load, settings, topic)
	if last := first.states[len(first.states)-1]; last == public.Halted || len(second.states) == 0 {
		t.Errorf("the replicas went through %v and %v", first.states, second.states)
	}
}
