package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// One row of many is bad, and to find out which takes longer than a transaction may stay open.
func TestABadRowAmongManyIsFoundBySlowBrokers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refusePoison(kerr.InvalidRecord)
	r.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.cluster.SleepControl(func() { time.Sleep(20 * time.Millisecond) })
		return nil, nil, false
	})
	exec(t, r.conn, `BEGIN`)
	for i := range 150 {
		r.putEvent("a", fmt.Sprint(i))
	}
	r.putEvent("a", poison)
	exec(t, r.conn, `COMMIT`)
	cfg := r.config()
	cfg.Compression, cfg.TransactionTimeout = "none", time.Second
	s := r.start(cfg)
	s.awaitRows(t, 150)
	s.stop()
	r.expectParked(map[string][]string{"a": {"refused " + poison}})
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers: %v", len(s.takeovers), s.states)
	}
}
