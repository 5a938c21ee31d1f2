package relay

import (
	"context"
	"time"

	"github.com/outbox-relay/relay/internal/backoff"
	"github.com/outbox-relay/relay/internal/lanestore"
)

// How often a relay that waits for a lane looks at its lock. One that has been assigned the lane
// looks more often than a stand-in, so that it comes first when both see the lock free.
const (
	assignedLook = 100 * time.Millisecond
	standInLook  = 250 * time.Millisecond
)

// silentLimit is how long the session that holds the lock may be silent before the assignee ends
// it; a living owner pings every pingInterval.
const silentLimit = 4 * lanestore.PingInterval

// awaitLock waits for the lane's lock and reports whether it was taken without an assignment.
//
// The group says who should run a lane, and needs its session timeout to notice a death. The lock
// is free the moment the owner's process or session is gone, so another process takes it at once.
// An owner that is frozen keeps its session; then the group assigns the lane to another process,
// and that one ends the silent session. None of this is needed for safety.
func (l *lane) awaitLock(ctx context.Context, row *lanestore.Row) (standIn bool, err error) {
	seenFree := false
	strange, differs := lanestore.Strangers{Log: l.log}, lanestore.Disagreement{}
	for {
		assigned := l.assigned.Has(l.partition)
		h, err := row.Holder(ctx)
		if err != nil {
			return false, err
		}
		reason := strange.Watch(h.Stranger)
		switch {
		case h.Owner != 0 && assigned && h.Silent > silentLimit:
			l.log.Warn("the owner of the lane is silent; its session is ended", "silent", h.Silent)
			if err := row.Evict(ctx, h.Owner); err != nil {
				return false, err
			}
		case h.Owner != 0:
			seenFree = false
			if err := l.compare(ctx, row, &differs); err != nil {
				return false, err
			}
			l.state.impaired(Standby, note{CauseLock, reason}, note{CauseSettings, differs.Text})
		case h.Taken && reason == "":
			l.state.change(Standby) // it was taken a moment ago, perhaps by a relay that is about to say so
		case assigned || seenFree:
			if taken, err := row.Take(ctx, h, reason); err != nil || taken {
				return !assigned, err
			}
		default:
			seenFree = true
		}
		look := standInLook
		if assigned {
			look = assignedLook
		}
		if err := backoff.Sleep(ctx, backoff.Jitter(look)); err != nil {
			return false, err
		}
	}
}

// compare warns once for each owner whose settings differ from those of this process.
func (l *lane) compare(ctx context.Context, row *lanestore.Row, d *lanestore.Disagreement) error {
	owner, differences, err := row.CompareSettings(ctx, d)
	if differences != "" {
		l.log.Warn("the owner of the lane has other settings than this process; "+settingsDiffer,
			"settings", differences, "owner", owner, "this", row.Owner())
	}
	return err
}

// standInTime is how long a stand-in runs a lane before it gives it to the assignee. It doubles
// each time that the assignee has not taken it, so that one that cannot does not disturb the lane
// forever.
func (l *lane) standInTime() time.Duration {
	return (2*l.cfg.SessionTimeout + time.Second) << min(l.yields.Load(), 6)
}

// yielding returns a channel that is closed when the lane should go to another process: its
// partition was revoked, or it was taken as a stand-in and the group has long had the time to find
// another assignee.
func (l *lane) yielding(ctx context.Context, standIn bool) (<-chan struct{}, func()) {
	yield := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		over := time.NewTimer(l.standInTime())
		defer over.Stop()
		assigned := !standIn
		for {
			changed := l.assigned.Changed()
			has := l.assigned.Has(l.partition)
			if has {
				l.yields.Store(0)
			}
			if assigned && !has && l.assigned.Joined() {
				close(yield)
				return
			}
			assigned = assigned || has
			select {
			case <-changed:
			case <-over.C:
				if !assigned && l.assigned.Joined() {
					l.yields.Add(1)
					close(yield)
					return
				}
				over.Reset(l.standInTime())
			case <-ctx.Done():
				return
			}
		}
	}()
	return yield, func() { cancel(); <-done }
}

// hold shows that the process lives, by the lane's session, and tells of a stranger that still has
// the lock.
func (l *lane) hold(ctx context.Context, row *lanestore.Row) error {
	if err := row.Hold(ctx); err != nil {
		return err
	}
	now, due := row.StrangerToTell()
	before := l.state.setStranger(now)
	switch {
	case due:
		l.log.Warn("the lane is run without its lock", "reason", now)
	case now == "" && before != "":
		l.log.Info("the stranger has let go of the lock of the lane, which this process holds now")
	}
	return nil
}
