package relay

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/recovery"
)

// putBad writes an event that can never be sent as it is.
func (r *rig) putBad(key, value string) {
	r.t.Helper()
	exec(r.t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, payload, headers) VALUES ('order', $1, 'T', $2, '{"h": null}')`,
		key, []byte(value))
}

// TRUNCATE outbox RESTART IDENTITY gives ids a second time while rows with the first ones are
// parked. All of them are kept, in order.
func TestIDsMayBeginAgainWhileRowsAreParked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(r.config())
	r.putBad("a", "1")
	r.putEvent("b", "1")
	s.awaitRows(t, 1)
	exec(t, r.conn, `TRUNCATE outbox RESTART IDENTITY`)
	r.putEvent("a", "2") // id 1 again
	r.putBad("c", "1")   // id 2, which was sent
	r.putEvent("a", "3")
	r.putEvent("b", "2")
	s.awaitRows(t, 2)
	r.expectParked(map[string][]string{"a": {"refused 1", "behind 2", "behind 3"}, "c": {"refused 1"}})
	// One of the two rows with id 1 is discarded; the other waits on, now first.
	first := query[string](t, r.conn, `SELECT msg_id::text FROM outbox_parked WHERE cause = 'refused' AND aggregate_id = 'a'`)
	if got := r.ask("discard", "a", &first); got != "discarded 1" {
		t.Errorf("the discard ended with %q", got)
	}
	r.awaitRecord(orders, func(record *kgo.Record) bool { return string(record.Key) == "a" && string(record.Value) == "3" })
	s.stop()
	r.expect(orders, map[string][]string{"a": {"2", "3"}, "b": {"1", "2"}})
	r.expectParked(map[string][]string{"c": {"refused 1"}})
}

// A recovery that goes back takes out of outbox_parked what it will read again: that row, and not
// another one with its id.
func TestARecoveryTakesBackNoOtherRowWithTheID(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	s := r.start(r.config())
	r.putBad("a", "1")
	r.putEvent("b", "1")
	s.awaitRows(t, 1)
	s.stop()
	exec(t, r.conn, `TRUNCATE outbox RESTART IDENTITY`)
	r.putEvent("b", "2") // id 1 again
	if err := r.cluster.DeleteTopic(checkpoint.TopicName("test")); err != nil {
		t.Fatal(err)
	}
	r.createCheckpoints()
	r.mustHalt(checkpoint.CheckpointLost, "checkpoint topic is empty")
	_, err := r.recovery(r.config()).Apply(t.Context(), recovery.Decision{Choice: recovery.ChooseRestartFrom, From: "beginning", Why: "test"})
	if err != nil {
		t.Fatal(err)
	}
	r.expectParked(map[string][]string{"a": {"refused 1"}})
}

// A row whose columns are too long for an index is parked all the same; older tables may hold such
// rows.
func TestARowOfAnyLengthCanBeParked(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	unbounded(t, r.conn)
	var long strings.Builder // nothing that compresses
	for long.Len() < 20_000 {
		long.WriteString(query[string](t, r.conn, `SELECT gen_random_uuid()::text`))
	}
	exec(t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload, headers)
VALUES ($1::text, $1::text, $1::text, 'orders', 'long', '{"h": null}'), ($1::text, $1::text || 'x', $1::text, 'orders', 'longer', '{"h": null}')`, long.String())
	cfg := r.config()
	s := r.start(cfg)
	r.putEvent("end", "end")
	r.awaitEnd(orders)
	s.stop()
	r.expectParked(map[string][]string{long.String(): {"refused long"}, long.String() + "x": {"refused longer"}})
	if err := r.cluster.CreateTopic("orders", 1, nil); err != nil {
		t.Fatal(err)
	}
	exec(t, r.conn, `UPDATE outbox_parked SET headers = NULL`)
	s = r.start(cfg) // reads what is parked
	exec(t, r.conn, `INSERT INTO outbox_parked_audit (lane, action, aggregate_type, aggregate_id, reason)
SELECT lane, 'retry', aggregate_type, aggregate_id, 'test' FROM outbox_parked ORDER BY id`)
	r.awaitRecord("orders", func(record *kgo.Record) bool { return string(record.Value) == "longer" })
	s.stop()
	r.expectParked(map[string][]string{})
}
