package relay

import (
	"testing"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
)

// A lane whose state was removed on both sides does not take parked rows for those of a batch that
// was never committed: they may be all that is left of them.
func TestParkedRowsOutliveTheStateOfTheLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', 'a', 'T', 'no topic!', 'x')`)
	r.putEvent("b", "1")
	s := r.start(r.config())
	s.awaitRows(t, 1)
	s.stop()
	parked := map[string][]string{"a": {"refused x"}}
	r.expectParked(parked)
	exec(t, r.conn, `DELETE FROM outbox`) // as retention does in time
	exec(t, r.conn, `DELETE FROM relay_lanes`)
	if err := r.cluster.DeleteTopic(checkpoint.TopicName("test")); err != nil {
		t.Fatal(err)
	}
	r.createCheckpoints()
	r.mustHalt(checkpoint.RowRemoved, "parked rows")
	r.expectParked(parked)
	_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseSkipToNow, Why: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s = r.start(r.config())
	r.putEvent("b", "2")
	s.awaitRows(t, 1)
	s.stop()
	r.expectParked(parked)
}
