package relay

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/outbox-relay/relay/internal/parking"
)

// Under the policy halt a person corrects the row that brokers have refused, and the lane goes on.
func TestALaneThatHaltedForARowGoesOnOnceTheRowIsCorrected(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refusePoison(kerr.InvalidRecord)
	r.putEvent("a", poison)
	r.putEvent("b", "2")
	cfg := r.config()
	cfg.Poison, cfg.Compression = parking.Halt, "none"
	s := r.start(cfg)
	if reason := s.awaitState(t, Halted); !strings.Contains(reason, "cannot be sent") {
		t.Errorf("it halted for %s", reason)
	}
	exec(t, r.conn, `UPDATE outbox SET payload = 'mended' WHERE payload = $1`, []byte(poison))
	s.awaitRows(t, 2)
	s.stop()
	r.expect(orders, map[string][]string{"a": {"mended"}, "b": {"2"}})
}
