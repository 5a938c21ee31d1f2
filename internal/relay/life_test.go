package relay

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// showsLife reports whether the lane's session says something more before long. Others end it when
// it is silent for silentLimit.
func showsLife(t *testing.T, eye *pgx.Conn) bool {
	t.Helper()
	const spoke = `SELECT coalesce(max(state_change)::text, '') FROM pg_stat_activity
		WHERE datname = current_database() AND application_name = 'relay outbox lane'`
	before := query[string](t, eye, spoke)
	for began := time.Now(); time.Since(began) < silentLimit; {
		if query[string](t, eye, spoke) != before {
			return true
		}
		exec(t, eye, `SELECT pg_sleep(0.05)`) // others need the processor
	}
	return false
}

// answersLate has the cluster wait before it answers the n-th request of a kind.
func answersLate(kind kmsg.Key, n int32) func(*testing.T, *rig, *pgx.Conn) (await, release func()) {
	return func(_ *testing.T, r *rig, _ *pgx.Conn) (await, release func()) {
		var requests atomic.Int32
		reached, answer := make(chan struct{}), make(chan struct{})
		r.cluster.ControlKey(int16(kind), func(kmsg.Request) (kmsg.Response, error, bool) {
			r.cluster.KeepControl()
			if requests.Add(1) == n {
				close(reached)
				<-answer
			}
			return nil, nil, false
		})
		return func() { <-reached }, func() { close(answer) }
	}
}

// A takeover waits for Postgres and for Kafka, however long they take. Meanwhile the session that
// holds the lock must not look like that of a frozen process, which the assignee of the lane would
// end.
func TestASlowTakeoverShowsThatItsOwnerLives(t *testing.T) {
	t.Parallel()
	// awaitBlocked waits until a session of the relay waits for the outbox.
	awaitBlocked := func(t *testing.T, eye *pgx.Conn) {
		until(t, func() bool {
			return query[bool](t, eye, `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
				WHERE relation = 'outbox'::regclass AND NOT granted AND application_name NOT LIKE '% backlog'
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
		})
	}
	// Each makes the takeover wait from some point on; it returns what waits until it does, and what
	// lets it go on.
	for name, slow := range map[string]func(t *testing.T, r *rig, eye *pgx.Conn) (await, release func()){
		"while the reader is opened": func(t *testing.T, r *rig, eye *pgx.Conn) (await, release func()) {
			exec(t, r.conn, `BEGIN; LOCK TABLE outbox`)
			return func() { awaitBlocked(t, eye) }, func() { exec(t, r.conn, `COMMIT`) }
		},
		"while the table is looked at": func(t *testing.T, r *rig, eye *pgx.Conn) (await, release func()) {
			r.cluster.ControlKey(int16(kmsg.InitProducerID), func(kmsg.Request) (kmsg.Response, error, bool) {
				exec(t, r.conn, `BEGIN; LOCK TABLE outbox`)
				return nil, nil, false
			})
			return func() { awaitBlocked(t, eye) }, func() { exec(t, r.conn, `COMMIT`) }
		},
		"while the pool is fenced":                     answersLate(kmsg.InitProducerID, 1),
		"while the sentinel is written":                answersLate(kmsg.Produce, 1),
		"while the first checkpoint is written":        answersLate(kmsg.Produce, 2),
		"while what was left open is looked for again": answersLate(kmsg.DescribeTransactions, 2),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			eye := open(t, r.url)
			await, release := slow(t, r, eye)
			s := r.start(r.config())
			await()
			alive := showsLife(t, eye)
			release()
			if !alive {
				t.Errorf("the session that holds the lane's lock was silent for %v", silentLimit)
			}
			want := r.insertOrders(5, "v")
			s.awaitRows(t, 5)
			s.stop()
			r.expect(orders, want)
		})
	}
}
