package relay

import (
	"fmt"
	"testing"
	"time"

	"github.com/outbox-relay/relay/internal/harness/outboxtest"
	"github.com/outbox-relay/relay/internal/retention"
)

// removed sums up what the Cleaner has told.
func (r *recorder) removed() (sum retention.Removal) {
	for _, one := range r.removals {
		sum.Rows, sum.Added, sum.Dropped = sum.Rows+one.Rows, sum.Added+one.Added, sum.Dropped+one.Dropped
		if one.Err != nil {
			sum.Err = one.Err
		}
	}
	return sum
}

func TestPublishedRowsGoAtOnceWithRetentionZero(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Retention = RemoveAtOnce
	first := r.insertOrders(50, "before")
	s := r.start(cfg)
	s.await(t, "50 rows are removed", func(r *recorder) bool { return r.removed().Rows == 50 })
	second := r.insertOrders(50, "after")
	s.await(t, "100 rows are removed", func(r *recorder) bool { return r.removed().Rows == 100 })
	s.stop()
	if n := query[int](t, r.conn, `SELECT count(*) FROM outbox`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	r.expect(orders, merge(first, second))
}

// The Cleaner looks, and leaves what is young, for as long as it is.
func TestPublishedRowsStayForTheRetention(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Retention = 2 * time.Second
	s := r.start(cfg)
	s.awaitRows(t, 0)
	began := time.Now()
	r.insertOrders(10, "young")
	s.awaitRows(t, 10)
	s.await(t, "the rows are removed", func(r *recorder) bool { return r.removed().Rows == 10 })
	if took := time.Since(began); took < cfg.Retention {
		t.Errorf("the rows went after %v", took)
	}
}

func TestNothingGoesForever(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Retention = KeepForever
	s := r.start(cfg)
	r.insertOrders(10, "kept")
	s.awaitRows(t, 10)
	if n := query[int](t, r.conn, `SELECT count(*) FROM pg_stat_activity
		WHERE application_name = 'relay outbox retention' AND datname = current_database()`); n != 0 {
		t.Errorf("%d sessions of a Cleaner", n)
	}
	s.stop()
	if n := query[int](t, r.conn, `SELECT count(*) FROM outbox`); n != 10 || len(s.removals) != 0 {
		t.Errorf("%d rows are left, removals %+v", n, s.removals)
	}
}

// A Cleaner that fails does no harm: the lane publishes, and what is due goes once the cause is
// gone.
func TestAFailureOfRetentionDoesNotHarmPublishing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
		CREATE TRIGGER refuse BEFORE DELETE ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()`)
	cfg := r.config()
	cfg.Retention = RemoveAtOnce
	s := r.start(cfg)
	want := r.insertOrders(10, "first")
	s.await(t, "the Cleaner fails", func(r *recorder) bool { return r.removed().Err != nil })
	want = merge(want, r.insertOrders(10, "second"))
	s.awaitRows(t, 20)
	s.await(t, "the lane runs", func(r *recorder) bool { return r.state().State == Running && len(r.takeovers) == 1 })
	exec(t, r.conn, `DROP TRIGGER refuse ON outbox`)
	s.await(t, "the rows are removed", func(r *recorder) bool { return r.removed().Rows == 20 })
	// So does one whose session is ended from outside.
	exec(t, r.conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE application_name = 'relay outbox retention' AND datname = current_database()`)
	want = merge(want, r.insertOrders(10, "third"))
	s.await(t, "the rows are removed", func(r *recorder) bool { return r.removed().Rows == 30 })
	s.stop()
	r.expect(orders, want)
}

// The lane runs on while partitions come and go, and while the table is turned into a partitioned
// one.
func TestALanePublishesFromPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	cfg.Retention = RemoveAtOnce
	s := r.start(cfg)
	want := r.insertOrders(10, "plain")
	s.await(t, "the rows are removed", func(r *recorder) bool { return r.removed().Rows == 10 })
	outboxtest.Partition(t, r.conn, 1000)
	for i := range 5 {
		want = merge(want, r.insertOrders(1000, fmt.Sprintf("round %d", i)))
	}
	s.awaitRows(t, 5010)
	s.await(t, "partitions are added and dropped", func(r *recorder) bool { sum := r.removed(); return sum.Added >= 4 && sum.Dropped >= 4 })
	s.stop()
	r.expect(orders, want)
}
