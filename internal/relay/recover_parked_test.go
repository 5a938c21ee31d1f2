package relay

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
)

// A recovery that goes back reads parked rows again: they are parked once, in order with the rows
// before them that come out twice, and what was on its way out of outbox_parked when the logs fell
// apart is not lost.
func TestARecoveryThatGoesBackKeepsParkedRowsInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for i := range 6 {
		headers := `{}`
		if i == 2 {
			headers = `{"h": null}`
		}
		exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', 'a', 'T', $1, $2)`,
			[]byte(fmt.Sprint(i)), headers)
	}
	s := r.start(r.config())
	s.awaitRows(t, 2)
	s.stop()
	parked := map[string][]string{"a": {"refused 2", "behind 3", "behind 4", "behind 5"}}
	r.expectParked(parked)
	// A batch released the head and was never committed, and then the checkpoints were lost.
	exec(t, r.conn, `UPDATE outbox_parked SET released_seq = 99 WHERE cause = 'refused'`)
	if err := r.cluster.DeleteTopic(checkpoint.TopicName("test")); err != nil {
		t.Fatal(err)
	}
	r.createCheckpoints()
	r.mustHalt(checkpoint.CheckpointLost, "checkpoint topic is empty")
	_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseRestartFrom, From: "beginning", Why: "test"})
	if err != nil {
		t.Fatal(err)
	}
	s = r.start(r.config())
	r.putEvent("b", "new")
	r.awaitRecord(orders, func(record *kgo.Record) bool { return string(record.Value) == "new" })
	s.stop()
	r.expectParked(parked)
	r.expect(orders, map[string][]string{"a": {"0", "1", "0", "1"}, "b": {"new"}})
	exec(t, r.conn, `UPDATE outbox_parked SET headers = NULL`)
	s = r.start(r.config())
	if got := r.ask("retry", "a", nil); got != "published 4" {
		t.Errorf("the retry ended with %q", got)
	}
	s.stop()
	r.expect(orders, map[string][]string{"a": {"0", "1", "0", "1", "2", "3", "4", "5"}, "b": {"new"}})
}

// createCheckpoints makes the checkpoint topic again, as the relay would, once the broker has
// forgotten the old one.
func (r *rig) createCheckpoints() {
	r.t.Helper()
	if err := r.cluster.CreateTopic(checkpoint.TopicName("test"), 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		r.t.Fatal(err)
	}
}
