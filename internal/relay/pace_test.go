package relay

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What takes too long in one batch is done in several. Before that it was tried again and again
// with the same rows.
func TestParkedRowsThatTakeTooLongGoInSmallerBatches(t *testing.T) {
	t.Parallel()
	const rows = 40
	r := newRig(t)
	exec(t, r.conn, `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END';
		CREATE TRIGGER slow BEFORE INSERT ON outbox_parked FOR EACH ROW EXECUTE FUNCTION slow()`)
	var mended atomic.Bool
	cfg := r.config()
	cfg.TransactionTimeout = 4500 * time.Millisecond // so a batch has 1.5 s for what it parks
	cfg.Check = func(*kgo.Record) error {
		if mended.Load() {
			return nil
		}
		return errors.New("refused")
	}
	exec(t, r.conn, `BEGIN`)
	want := make(map[string][]string)
	for i := range rows {
		value := fmt.Sprint(i)
		insert(t, r.conn, "slow", value)
		want["slow"] = append(want["slow"], value)
	}
	exec(t, r.conn, `COMMIT`)
	s := r.start(cfg)
	until(t, func() bool { return query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked`) == rows })
	mended.Store(true)
	if got := r.ask("retry", "slow", nil); got != fmt.Sprintf("published %d", rows) {
		t.Errorf("the retry ended with %q", got)
	}
	s.stop()
	r.expect(orders, want)
	r.expectParked(nil)
}

func TestAPaceFollowsWhatPostgresCanDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPace(1000)
		late := fmt.Errorf("park rows: %w", context.DeadlineExceeded)
		for i, step := range []struct {
			changed int
			took    time.Duration
			err     error
			want    int
		}{
			{800, 9 * time.Second, late, 400},
			{400, 8 * time.Second, nil, 400}, // in time, and not quick
			{0, 0, nil, 400},                 // says nothing of parking
			{400, 9 * time.Second, late, 200},
			{200, time.Second, nil, 400},
			{400, time.Second, errors.New("another"), 400},
			{0, 9 * time.Second, late, 400}, // was not slow for its rows
			{400, time.Second, nil, 800},
			{800, time.Second, nil, 1000},
			{1, 9 * time.Second, late, 1}, // one row cannot be split
		} {
			if p.learn(step.changed, step.took, 8*time.Second, step.err); p.rows() != step.want {
				t.Fatalf("step %d: %d rows, want %d", i, p.rows(), step.want)
			}
		}
		time.Sleep(pacePatience + time.Second)
		p.learn(0, 0, 8*time.Second, nil)
		p.learn(0, 0, 8*time.Second, nil)
		if p.rows() != 4 {
			t.Errorf("%d rows after a while, want 4", p.rows())
		}
	})
}
