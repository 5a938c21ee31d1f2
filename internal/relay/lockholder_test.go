package relay

import (
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/lanestore"
)

// Any login can take the lane's advisory lock. The lane is run without it, says so, and takes the
// lock once it is free.
func TestAStrangerOnTheLockIsToldOfAndPassedOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stranger := open(t, r.url)
	exec(t, stranger, `SET application_name = 'reports'; SELECT pg_advisory_lock(`+lanestore.LockKey("'outbox'")+`)`)
	cfg, log := logging(r.config())
	want := r.insertOrders(3, "v")
	s := r.start(cfg)
	s.awaitRows(t, 3)
	s.await(t, "the lane says so", func(s *recorder) bool {
		return s.state().State == Running && strings.Contains(s.state().Reason, `application "reports"`)
	})
	if n := log.count("level=WARN", "is passed over", "reports"); n != 1 {
		t.Errorf("the stranger was told of %d times", n)
	}
	// Another relay sees the owner's session, and leaves the lane alone.
	other := r.start(r.config())
	other.await(t, "the other stands by", func(s *recorder) bool {
		return s.state().State == Standby && strings.Contains(s.state().Reason, "reports")
	})
	exec(t, stranger, `SELECT pg_advisory_unlock_all()`)
	s.await(t, "the lane has its lock", func(s *recorder) bool { return s.state().State == Running && s.state().Reason == "" })
	if n := len(other.takeovers); n != 0 {
		t.Errorf("the other took the lane over %d times", n)
	}
	other.stop()
	s.stop()
	r.expect(orders, want)
}
