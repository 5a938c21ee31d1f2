package relay

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/outbox-relay/relay/internal/parking"
)

// putLarge writes an event whose payload has so many MiB.
func (r *rig) putLarge(topic, key string, mib int) {
	r.t.Helper()
	exec(r.t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload)
		VALUES ('order', $1, 'T', $2, convert_to(repeat('x', $3 << 20), 'UTF8'))`, key, topic, mib)
}

// allocated is how many bytes this process has asked for while work ran. It must not run beside
// other tests.
func allocated(work func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	work()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A row that its topic never takes is parked without a visit to this process.
func TestARowThatCanNeverBeSentIsNotFetched(t *testing.T) { // not parallel: it counts the bytes of the process
	r := newRig(t)
	r.createTopic("t", 1<<20)
	cfg := r.config()
	s := r.start(cfg)
	r.putTo("t", "a", "warm")
	s.awaitRows(t, 1)
	const mib = 64
	used := allocated(func() {
		exec(t, r.conn, `BEGIN`)
		r.putTo("t", "a", "before")
		r.putLarge("t", "a", mib)
		r.putTo("t", "b", "after")
		r.putTo("t", "a", "behind")
		exec(t, r.conn, `COMMIT`)
		s.await(t, "the rest is published", func(rec *recorder) bool { return rec.rows == 3 })
		if got := r.ask("retry", "a", nil); !strings.Contains(got, "max.message.bytes") {
			t.Errorf("the retry: %q", got)
		}
	})
	s.stop()
	if used > mib<<20 {
		t.Errorf("parking a row of %d MiB took %d MiB", mib, used>>20)
	}
	r.expect("t", map[string][]string{"a": {"warm", "before"}, "b": {"after"}})
	got := query[string](t, r.conn, `SELECT string_agg(cause || ' ' || octet_length(payload), ', ' ORDER BY id) FROM outbox_parked`)
	if want := fmt.Sprintf("refused %d, behind 6", mib<<20); got != want {
		t.Errorf("parked are %q, want %q", got, want)
	}
}

// Rows that are larger than a page go alone, in their order, from the outbox and from what is
// parked.
func TestRowsLargerThanAPageAreFetchedOneByOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	put := func(topic string) {
		exec(t, r.conn, `BEGIN`)
		r.putTo(topic, "a", "1")
		r.putLarge(topic, "a", 3)
		r.putLarge(topic, "a", 4)
		r.putTo(topic, "b", "2")
		r.putLarge(topic, "b", 2)
		r.putTo(topic, "a", "3")
		exec(t, r.conn, `COMMIT`)
	}
	want := map[string]string{"a": "1 3145728 4194304 1", "b": "1 2097152"}
	r.createTopic("t", 8<<20)
	put("t")
	put("late")
	cfg := r.config()
	cfg.BatchBytes = 1 << 20
	s := r.start(cfg)
	s.awaitRows(t, 6)
	r.expectSizes("t", r.values("t"), want)
	s.await(t, "what misses its topic is parked", func(*recorder) bool { return len(r.parkedRows()) == 2 })
	r.createTopic("late", 8<<20)
	s.awaitRows(t, 12)
	s.stop()
	r.expectSizes("late", r.values("late"), want)
	r.expectParked(nil)
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers: %v", len(s.takeovers), s.states)
	}
}

// More aggregates are parked than memory is for. The lane says so and publishes nothing new until
// there are fewer, also after a change of the owner; requests are carried out meanwhile, for each
// of them.
func TestParkedAggregatesAreBoundedInMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const parked = 100
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic)
		SELECT 'order', 'a' || n, 'T', 'late' FROM generate_series(1, $1::int) n`, parked)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'z', 'T', '1', '{"h": null}')`)
	cfg := r.config()
	cfg.BatchRows, cfg.parkedBytes = 20, 50*parking.KeyBytes
	full := func(rec *recorder) bool {
		return rec.state().State == Waiting && strings.Contains(rec.state().Reason, "relay parked list")
	}
	s := r.start(cfg)
	s.await(t, "the lane is full", full)
	r.putEvent("b", "1")
	if got := r.ask("discard", "a1", nil); got != "discarded 1" {
		t.Errorf("the discard: %q", got)
	}
	s.stop()
	before := query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`)
	if before < 30 || before > 80 {
		t.Errorf("%d rows are parked, and memory is for fewer than 50", before)
	}
	small := cfg
	small.parkedBytes = 20 * parking.KeyBytes // less than what is parked by now
	s = r.start(small)
	s.await(t, "the lane is full", full)
	last := query[string](t, r.conn, `SELECT aggregate_id FROM outbox_parked ORDER BY id DESC LIMIT 1`)
	for _, key := range []string{"a2", "a3", last} {
		if got := r.ask("discard", key, nil); got != "discarded 1" {
			t.Errorf("the discard of %s: %q", key, got)
		}
	}
	if got := r.ask("discard", "never", nil); !strings.Contains(got, " 0") {
		t.Errorf("the discard of what is not parked: %q", got)
	}
	r.createTopic("late", 1<<20)
	s.await(t, "all but the bad row are published", func(rec *recorder) bool {
		return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`) == 1 && rec.state().Reason == ""
	})
	r.putEvent("b", "2")
	s.await(t, "new rows are published", func(rec *recorder) bool { return rec.rows >= parked-4+2 })
	s.stop()
	r.expect(orders, map[string][]string{"b": {"1", "2"}})
	if n := len(r.records("late", false)); n != parked-4 {
		t.Errorf("%d records", n)
	}
	r.expectParked(map[string][]string{"z": {"refused 1"}})
}
