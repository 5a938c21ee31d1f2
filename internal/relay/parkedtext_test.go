package relay

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Whatever a check says of a row can be written down.
func TestAnErrorThatIsNoTextParksTheRow(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload) VALUES ('order', 'a', 'T', $1)`, []byte{0, 255, 'x'})
	r.putEvent("b", "good")
	cfg := r.config()
	cfg.Check = func(record *kgo.Record) error {
		if bytes.HasPrefix(record.Value, []byte{0}) {
			return fmt.Errorf("not a message: %s", record.Value)
		}
		return nil
	}
	s := r.start(cfg)
	s.awaitRows(t, 1)
	s.stop()
	if n := query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked WHERE error LIKE 'not a message: ??x'`); n != 1 {
		t.Errorf("%d rows are parked", n)
	}
}
