//go:build bench

package peers

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"github.com/outbox-relay/relay/internal/harness/child"
)

// pollerContender is a number of home-made pollers.
type pollerContender struct {
	outbox
	binary    string
	instances int
	children  []*child.Child
}

// pollerTable is what the poller needs besides.
const pollerTable = `ALTER TABLE outbox ADD COLUMN published_at timestamptz;
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL`

func (p *pollerContender) prepare(ctx context.Context) error { return execute(ctx, p.url, pollerTable) }

func (p *pollerContender) start(context.Context) error {
	for range p.instances {
		c, err := child.Start("poller", p.command(), "poller: running")
		if err != nil {
			return err
		}
		p.children = append(p.children, c)
	}
	return nil
}

func (p *pollerContender) suspend(ctx context.Context) (err error) {
	for _, c := range p.children {
		err = errors.Join(err, c.Stop(ctx))
	}
	p.children = nil
	return err
}

func (p *pollerContender) kill() (err error) {
	for _, c := range p.children {
		err = errors.Join(err, c.Crash())
	}
	p.children = nil
	return err
}

func (p *pollerContender) revive(ctx context.Context) error { return p.start(ctx) }

func (p *pollerContender) ids() (ids []int) {
	for _, c := range p.children {
		ids = append(ids, c.ID())
	}
	return ids
}

func (p *pollerContender) close(context.Context) (err error) {
	for _, c := range p.children {
		err = errors.Join(err, c.End())
	}
	return err
}

// command is that of one instance. Its batch and pause are what its author would choose who has
// measured.
func (p *pollerContender) command() *exec.Cmd {
	cmd := exec.Command(p.binary)
	cmd.Env = append(child.Environ(os.Environ()), "POLLER_DATABASE_URL="+p.url, "POLLER_BROKERS="+strings.Join(p.brokers, ","),
		"POLLER_BATCH=1000", "POLLER_PAUSE=10ms")
	return cmd
}
