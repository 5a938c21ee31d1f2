package lanestore

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/outbox-relay/relay/internal/pg"
)

// Any login of the database can take an advisory lock, and keep it. So the lock alone does not say
// that a relay runs the lane: the session that takes it writes its backend into the lane's row in
// the same statement, which only relays may write. A lock whose holder is not in the row is a
// stranger's: it is told of and passed over, since fencing is what keeps the lane safe.

// Holding is who has the lane at the moment.
type Holding struct {
	// Owner is the backend of the session that the row names, if it lives, and silent for how long it
	// has said nothing; a session that waits for the server is not silent.
	Owner  int32
	Silent time.Duration
	// Taken is whether some session holds the lock, which may be the owner's, and stranger describes
	// one that is not.
	Taken    bool
	Stranger string
	// named is what the row names, alive or not, for passOver.
	namedPID     *int32
	namedStarted *time.Time
}

// LaneSession is the application_name of the session that runs a lane.
func LaneSession(lane string) string { return "relay " + lane + " lane" }

// HolderColumns are, of a query from relay_lanes r and HolderJoin: the backend of the session that
// runs the lane, 0 where none does; for how many seconds it has been silent; whether some session
// holds the lane's lock; and which one, if it is not the owner's.
const HolderColumns = `coalesce(o.pid, 0) AS owner_pid,
coalesce(CASE WHEN o.state = 'active' THEN 0 ELSE extract(epoch FROM clock_timestamp() - o.state_change) END, 0)::float8 AS silent,
l.who IS NOT NULL AS taken, CASE WHEN l.pid IS DISTINCT FROM o.pid THEN l.who END AS stranger`

// HolderJoin finds what HolderColumns shows. A role that may not see when the sessions of another
// one began is told by the number of the backend and the name of the session. A lock on a bigint
// shows its two halves in classid and objid, and 1 in objsubid; a prepared transaction holds it
// without a backend.
var HolderJoin = `
LEFT JOIN pg_stat_activity o ON o.pid = r.owner_pid
      AND (o.backend_start = r.owner_started OR o.backend_start IS NULL AND o.application_name = 'relay ' || r.lane || ' lane')
LEFT JOIN LATERAL (
    SELECT k.pid, CASE WHEN k.pid IS NULL THEN 'a prepared transaction'
                       ELSE format('session %s of role %s (application "%s")', k.pid, a.usename, a.application_name) END AS who
      FROM ` + LockKey("r.lane") + ` AS key, pg_locks k LEFT JOIN pg_stat_activity a ON a.pid = k.pid
     WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
       AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND k.classid::bigint = (key >> 32) & 4294967295 AND k.objid::bigint = key & 4294967295
     ORDER BY k.pid IS DISTINCT FROM o.pid LIMIT 1) l ON true`

// Holder tells who has the lane.
func (l *Row) Holder(ctx context.Context) (h Holding, err error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	var seconds float64
	var stranger *string
	err = l.conn.QueryRow(ctx, `SELECT `+HolderColumns+`, r.owner_pid, r.owner_started
FROM (SELECT $1::text AS lane) one LEFT JOIN relay_lanes r USING (lane)`+HolderJoin, l.o.Lane).
		Scan(&h.Owner, &seconds, &h.Taken, &stranger, &h.namedPID, &h.namedStarted)
	if err != nil {
		return h, fmt.Errorf("look up the owner of lane %s: %w", l.o.Lane, err)
	}
	h.Silent = time.Duration(seconds * float64(time.Second))
	if stranger != nil {
		h.Stranger = *stranger
	}
	return h, nil
}

// noteOwner writes the session into the row where a condition holds.
const noteOwner = `UPDATE relay_lanes SET owner_pid = pg_backend_pid(),
       owner_started = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) `

// TryLock takes the lane's lock if it is free, and says in the row that this session has it.
func (l *Row) TryLock(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	err := l.conn.QueryRow(ctx, `
WITH lock AS MATERIALIZED (SELECT pg_try_advisory_lock(`+LockKey("$1")+`) AS taken),
     noted AS (`+noteOwner+`FROM lock WHERE lock.taken AND lane = $1)
SELECT taken FROM lock`, l.o.Lane).Scan(&l.locked)
	if err != nil {
		return false, fmt.Errorf("take the lock of lane %s: %w", l.o.Lane, err)
	}
	return l.locked, nil
}

// Take takes a lane that has no owner: by its lock, or where a stranger holds that, as reason
// tells, by its row.
func (l *Row) Take(ctx context.Context, h Holding, reason string) (bool, error) {
	if !h.Taken {
		return l.TryLock(ctx)
	}
	taken, err := l.passOver(ctx, h)
	if taken {
		l.stranger, l.warned = reason, time.Now()
	}
	return taken, err
}

// passOver makes this session the owner although a stranger holds the lock. Of several that try,
// one is.
func (l *Row) passOver(ctx context.Context, h Holding) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, pg.StatementTimeout)
	defer cancel()
	tag, err := l.conn.Exec(ctx, noteOwner+`WHERE lane = $1 AND owner_pid IS NOT DISTINCT FROM $2
  AND owner_started IS NOT DISTINCT FROM $3`, l.o.Lane, h.namedPID, h.namedStarted)
	if err != nil {
		return false, fmt.Errorf("pass over the stranger that holds the lock of lane %s: %w", l.o.Lane, err)
	}
	return tag.RowsAffected() == 1, nil
}

// strangerGrace is how long a lock may be held by a session that the row does not name: the one
// that takes it writes both in one statement, which may wait for the row.
const strangerGrace = time.Second

// strangerWarning is how often a stranger is told of in the log.
const strangerWarning = time.Minute

// Strangers keeps an eye on the sessions that hold the lock and are no owner.
type Strangers struct {
	Log    *slog.Logger
	who    string
	since  time.Time
	warned time.Time
}

// Watch is told who holds the lock, and returns what to say of it; "" if there is no stranger,
// or not for long enough.
func (s *Strangers) Watch(stranger string) string {
	if stranger != s.who {
		s.who, s.since, s.warned = stranger, time.Now(), time.Time{}
	}
	if stranger == "" || time.Since(s.since) < strangerGrace {
		return ""
	}
	if time.Since(s.warned) >= strangerWarning {
		s.warned = time.Now()
		s.Log.Warn("the lock of the lane is held by a session that is no relay's; it is passed over, and a failover takes longer until it ends",
			"holder", stranger)
	}
	return "its advisory lock is held by " + stranger + ", which is no relay's; the lane is run without it, and a failover takes longer; " +
		"find out who takes it, and end the session"
}

// Hold shows that this process lives, and takes the lock where a stranger had it and has let go.
func (l *Row) Hold(ctx context.Context) error {
	if l.locked || l.stranger == "" {
		return l.Ping(ctx)
	}
	ctx, cancel := limited(ctx)
	defer cancel()
	locked, err := l.TryLock(ctx)
	if locked {
		l.stranger = ""
	}
	return err
}

// StrangerToTell returns what there is to say of a stranger that has the lock, and whether to say
// it again.
func (l *Row) StrangerToTell() (reason string, due bool) {
	if l.stranger == "" || time.Since(l.warned) < strangerWarning {
		return l.stranger, false
	}
	l.warned = time.Now()
	return l.stranger, true
}
