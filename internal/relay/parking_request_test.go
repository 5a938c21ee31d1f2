package relay

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/lanestore"
)

// What a process knows of parked aggregates is of no use once it does not run the lane any more.
func TestALaneThatIsNotRunHasNoParkedAggregates(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.putEvent("a", "1")
	exec(t, r.conn, `UPDATE outbox SET headers = '{"h": null}'`)
	r.putEvent("b", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	if got := s.relay.Status()[0].ParkedAggregates; got != 1 {
		t.Errorf("%d aggregates while it runs", got)
	}
	// Somebody else takes the lock: who waits in the queue gets it before one that tries.
	other := open(t, r.url)
	locked := make(chan error, 1)
	go func() {
		_, err := other.Exec(context.Background(), `SELECT pg_advisory_lock(`+lanestore.LockKey("'outbox'")+`)`)
		locked <- err
	}()
	const waiting = `SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	until(t, func() bool { return query[int](t, r.conn, waiting) > 0 })
	exec(t, r.conn, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if err := <-locked; err != nil {
		t.Fatal(err)
	}
	for s.relay.Status()[0].State != Standby {
		query[int](t, r.conn, `SELECT 1`)
	}
	if got := s.relay.Status()[0].ParkedAggregates; got != 0 {
		t.Errorf("%d aggregates after it", got)
	}
	s.stop()
}

// A row that has only waited was never refused.
func TestAttemptsCountRefusalsOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	first := query[string](t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers)
		VALUES ('order', 'a', 'T', '1', '{"h": null}') RETURNING msg_id::text`)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', '2', '{"h": null}')`)
	r.putEvent("b", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	r.ask("discard", "a", &first)
	until(t, func() bool { return strings.HasPrefix(strings.Join(r.parkedRows()["a"], ";"), "refused") })
	if got := query[int](t, r.conn, `SELECT attempts FROM outbox_parked`); got != 1 {
		t.Errorf("%d attempts after one refusal", got)
	}
	s.stop()
}

// A request that is committed late, when the owner has stopped looking, is found when something
// else is parked. A discard must not take what was not there when it was asked for.
func TestADiscardTakesOnlyWhatWasParkedWhenItWasAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := func(value string) {
		exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', $1, '{"h": null}')`, []byte(value))
	}
	bad("1")
	r.putEvent("b", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	late := open(t, r.url)
	exec(t, late, `BEGIN`)
	exec(t, late, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason) VALUES ('outbox', 'discard', 'order', 'a', 'late')`)
	if got := r.ask("discard", "a", nil); got != "discarded 1" {
		t.Fatal(got)
	}
	bad("2") // nobody has seen this one
	r.putEvent("b", "2")
	s.awaitRows(t, 2)
	exec(t, late, `COMMIT`)
	until(t, func() bool {
		return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE done_at IS NULL`) == 0
	})
	r.expectParked(map[string][]string{"a": {"refused 2"}})
	s.stop()
}

// The same request is not found at all where nothing is parked any more.
func TestARequestThatComesLateIsClosed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', '1', '{"h": null}')`)
	r.putEvent("b", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	late := open(t, r.url)
	exec(t, late, `BEGIN`)
	exec(t, late, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason) VALUES ('outbox', 'retry', 'order', 'a', 'late')`)
	if got := r.ask("discard", "a", nil); got != "discarded 1" {
		t.Fatal(got)
	}
	exec(t, late, `COMMIT`)
	until(t, func() bool {
		return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE done_at IS NULL`) == 0
	})
	s.stop()
}

// until polls a condition, with pauses that leave the processor to others.
func until(t testing.TB, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
	}
}
