//go:build bench

package peers

import (
	"context"
	"os"

	"github.com/outbox-relay/relay/internal/bench"
	"github.com/outbox-relay/relay/internal/harness/child"
)

// relayContender is `relay run`, with its defaults.
type relayContender struct {
	outbox
	binary string
	child  *child.Child
}

func (r *relayContender) prepare(context.Context) error { return nil }

func (r *relayContender) start(ctx context.Context) (err error) {
	cfg := bench.Config{Brokers: r.brokers, Relay: []string{r.binary, "run"}, Environ: child.Environ(os.Environ())}
	r.child, err = bench.StartRelay(ctx, cfg, r.url, r.name, topicPrefix+"route")
	return err
}

func (r *relayContender) suspend(ctx context.Context) error {
	if r.child == nil {
		return nil
	}
	stopping := r.child
	r.child = nil
	return stopping.Stop(ctx)
}

func (r *relayContender) kill() error                      { return r.child.Crash() }
func (r *relayContender) revive(ctx context.Context) error { return r.start(ctx) }

func (r *relayContender) ids() []int {
	if r.child == nil {
		return nil
	}
	return []int{r.child.ID()}
}

func (r *relayContender) close(context.Context) error {
	if r.child == nil {
		return nil
	}
	return r.child.End()
}
