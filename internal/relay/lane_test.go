package relay

import (
	"slices"
	"testing"

	"github.com/outbox-relay/relay/internal/election"
)

// observed is a lane that is told to the recorder only.
func observed(rows int) (*lane, *recorder) {
	seen := newRecorder()
	cfg := Config{Hooks: seen.hooks(), BatchRows: rows}.WithDefaults()
	return newLane(&cfg, cfg.Lanes[0], "owner", election.NewMember()), seen
}

func TestAStateIsToldOnceEachTimeItChanges(t *testing.T) {
	l, seen := observed(10)
	if got := l.state.status(); got.State != Standby || got.Lane != "outbox" || got.Since.IsZero() {
		t.Errorf("a new lane is %+v", got)
	}
	for _, s := range []struct {
		state  State
		reason string
	}{{Waiting, "a"}, {Waiting, "a"}, {Waiting, "b"}, {Running, ""}, {Running, ""}, {Waiting, "b"}} {
		l.state.changeTo(s.state, s.reason, nil, nil)
	}
	var told []string
	for _, s := range seen.states {
		told = append(told, string(s.State)+s.Reason)
	}
	if want := []string{"waitinga", "waitingb", "running", "waitingb"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
