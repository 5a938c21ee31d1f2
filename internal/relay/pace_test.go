package relay

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
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
