package relay

import (
	"fmt"
	"testing"
)

// However many aggregates are discarded at once, no batch takes on more rows than it may.
func TestDiscardingManyAggregatesTakesBatches(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const aggregates, rows = 20, 6
	for i := range aggregates {
		for range rows {
			exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic) VALUES ('order', $1, 'T', 'no topic!')`, fmt.Sprint(i))
		}
	}
	cfg := r.config()
	cfg.BatchRows = 10
	s := r.start(cfg)
	s.await(t, "all are parked", func(*recorder) bool {
		return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`) == aggregates*rows
	})
	exec(t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason)
		SELECT DISTINCT 'outbox', 'discard', 'order', aggregate_id, 'test' FROM outbox_parked`)
	until(t, func() bool {
		return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit WHERE done_at IS NULL`) == 0
	})
	s.stop()
	r.expectParked(nil)
	if n := query[int](t, r.conn, `SELECT sum(events)::int FROM outbox_parked_audit WHERE outcome = 'discarded'`); n != aggregates*rows {
		t.Errorf("%d events are recorded as discarded", n)
	}
	for _, b := range s.batches {
		if b.Released > cfg.BatchRows {
			t.Errorf("a batch released %d rows", b.Released)
		}
	}
}
