package relay

import (
	"context"

	"github.com/outbox-relay/relay/internal/lanestore"
)

// hold shows that the process lives, by the lane's session, and tells of a stranger that still has
// the lock.
func (l *lane) hold(ctx context.Context, row *lanestore.Row) error {
	if err := row.Hold(ctx); err != nil {
		return err
	}
	now, due := row.StrangerToTell()
	before := l.strangerReason()
	l.strange.Store(&now)
	switch {
	case due:
		l.log.Warn("the lane is run without its lock", "reason", now)
	case now == "" && before != "":
		l.log.Info("the stranger has let go of the lock of the lane, which this process holds now")
	}
	if now != before && l.status().State == Running {
		l.running()
	}
	return nil
}

// strangerReason is what there is to say of a stranger that has the lock.
func (l *lane) strangerReason() string {
	if text := l.strange.Load(); text != nil {
		return *text
	}
	return ""
}
