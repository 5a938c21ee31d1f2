package relay

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/parking"
)

// putTo writes an event to a topic of its own choice.
func (r *rig) putTo(topic, key, value string) {
	r.t.Helper()
	exec(r.t, r.conn, `INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('order', $1, 'T', $2, $3)`,
		key, topic, []byte(value))
}

// createTopic makes a topic of one partition with its max.message.bytes.
func (r *rig) createTopic(topic string, maxBytes int) {
	r.t.Helper()
	if err := r.cluster.CreateTopic(topic, 1, map[string]string{"max.message.bytes": fmt.Sprint(maxBytes)}); err != nil {
		r.t.Fatal(err)
	}
}

// setLimit changes max.message.bytes of a topic.
func (r *rig) setLimit(topic string, maxBytes int) {
	r.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		r.t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	defer admin.Close()
	limit := fmt.Sprint(maxBytes)
	responses, err := admin.AlterTopicConfigs(r.t.Context(), []kadm.AlterConfig{{Name: "max.message.bytes", Value: &limit}}, topic)
	if err == nil {
		err = responses[0].Err
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// hideLimits makes the broker deny every question about the settings of topics but for its own.
func (r *rig) hideLimits() {
	r.cluster.ControlKey(int16(kmsg.DescribeConfigs), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		describe := request.(*kmsg.DescribeConfigsRequest)
		response := describe.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, resource := range describe.Resources {
			if strings.HasPrefix(resource.ResourceName, "relay.") {
				return nil, nil, false
			}
			denied := kmsg.NewDescribeConfigsResponseResource()
			denied.ResourceType, denied.ResourceName = resource.ResourceType, resource.ResourceName
			denied.ErrorCode = kerr.TopicAuthorizationFailed.Code
			response.Resources = append(response.Resources, denied)
		}
		return response, nil, true
	})
}

// expectSizes checks causes and payload sizes of what is parked, and of a topic's records, without
// printing megabytes.
func (r *rig) expectSizes(what string, got map[string][]string, want map[string]string) {
	r.t.Helper()
	sizes := make(map[string]string)
	for key, values := range got {
		var texts []string
		for _, v := range values {
			cause, _, parked := strings.Cut(v, " ")
			if !parked {
				cause = ""
			}
			texts = append(texts, fmt.Sprint(cause, len(v)))
		}
		sizes[key] = strings.Join(texts, " ")
	}
	if fmt.Sprint(sizes) != fmt.Sprint(want) {
		r.t.Errorf("%s: %v, want %v", what, sizes, want)
	}
}

func (r *rig) values(topic string) map[string][]string {
	r.t.Helper()
	got := make(map[string][]string)
	for _, record := range r.records(topic, false) {
		got[string(record.Key)] = append(got[string(record.Key)], string(record.Value))
	}
	return got
}

func large(letter string, kib int) string { return strings.Repeat(letter, kib<<10) }

// Nothing is known of the limit of a topic that does not exist: a row larger than Kafka's default
// waits for the topic like any other.
func TestALargeRowWaitsForItsTopic(t *testing.T) {
	t.Parallel()
	for _, policy := range []parking.Policy{parking.Park, parking.Skip} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.putTo("big", "a", large("1", 2<<10))
			r.putEvent("b", "1")
			cfg := r.config()
			cfg.Poison, cfg.Topics.Timeout, cfg.Compression = policy, 50*time.Millisecond, "none"
			s := r.start(cfg)
			s.awaitRows(t, 1)
			for _, rows := range r.parkedRows() {
				if !strings.HasPrefix(rows[0], "topic ") {
					t.Errorf("the row is parked with cause %.20q", rows[0])
				}
			}
			r.createTopic("big", 4<<20)
			s.await(t, "the large row is published, or was given up", func(rec *recorder) bool {
				return rec.rows == 2 || query[int](t, r.conn, `SELECT count(*)::int FROM outbox_parked_audit`) > 0
			})
			s.stop()
			r.expectSizes("big", r.values("big"), map[string]string{"a": "2097152"})
			r.expectParked(nil)
		})
	}
}

// The settings of the topic may not be read. The relay sends what may be too large alone, and the
// broker says what is.
func TestOnlyTheBrokerRefusesARowWhereItsLimitMayNotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.hideLimits()
	r.createTopic("big", 4<<20)
	exec(t, r.conn, `BEGIN`)
	r.putTo("big", "a", "small")
	r.putTo("big", "a", large("2", 3<<10))
	r.putTo("big", "b", large("3", 3<<10))
	r.putTo("big", "c", large("4", 5<<10))
	r.putTo("big", "c", "behind")
	r.putTo("big", "d", large("5", 900))
	exec(t, r.conn, `COMMIT`)
	cfg := r.config()
	cfg.Compression, cfg.BatchBytes = "none", 32<<20
	s := r.start(cfg)
	s.await(t, "four are published", func(rec *recorder) bool { return rec.rows == 4 || len(r.parkedRows()) > 1 })
	s.stop()
	r.expectSizes("big", r.values("big"), map[string]string{"a": "5 3145728", "b": "3145728", "d": "921600"})
	r.expectSizes("parked", r.parkedRows(), map[string]string{"c": "refused5242888 behind13"})
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers: %v", len(s.takeovers), s.states)
	}
}

// A topic takes smaller batches than it says, and one row is too large for it. Every round
// publishes or parks.
func TestSmallBatchesAndARowTooLargeAreNoLivelock(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.refuseLarger(700_000)
	exec(t, r.conn, `BEGIN`)
	for i, size := range []int{600_000, 300_000, 900_000, 300_000, 500_000, 990_000} {
		r.putEvent(fmt.Sprintf("k%d", i), strings.Repeat("x", size))
	}
	exec(t, r.conn, `COMMIT`)
	cfg := r.config()
	cfg.Compression = "none"
	s := r.start(cfg)
	s.await(t, "four are published", func(rec *recorder) bool { return rec.rows == 4 || len(rec.takeovers) > 10 })
	r.putEvent("k9", strings.Repeat("y", 650_000))
	r.putEvent("k10", strings.Repeat("z", 950_000))
	r.putEvent("k11", "last")
	s.await(t, "the last is published", func(rec *recorder) bool { return rec.rows == 6 || len(rec.takeovers) > 20 })
	s.stop()
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers and %d rows: %v", len(s.takeovers), s.rows, s.states[len(s.states)-1])
	}
	for _, key := range []string{"k2", "k5", "k10"} {
		if rows := r.parkedRows()[key]; len(rows) != 1 {
			t.Errorf("%d rows of %s are parked", len(rows), key)
		}
	}
}

// The limit of a topic changes while a session uses the old one. It asks before it gives up a
// row.
func TestALimitThatChangesUnderWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.createTopic("t", 1<<20)
	cfg := r.config()
	cfg.Compression = "none"
	s := r.start(cfg)
	r.putTo("t", "a", large("1", 900))
	s.awaitRows(t, 1)
	r.setLimit("t", 100<<10)
	exec(t, r.conn, `BEGIN`)
	for i := range 5 {
		r.putTo("t", fmt.Sprintf("b%d", i), large("2", 60))
	}
	r.putTo("t", "c", large("3", 150))
	exec(t, r.conn, `COMMIT`)
	s.awaitRows(t, 6)
	if len(s.takeovers) != 1 {
		t.Errorf("%d takeovers for a limit that was lowered", len(s.takeovers))
	}
	r.expectSizes("parked", r.parkedRows(), map[string]string{"c": "refused153608"})
	r.setLimit("t", 3<<20)
	r.putTo("t", "d", large("4", 2<<10))
	s.await(t, "what the topic takes now is published", func(rec *recorder) bool {
		return rec.rows == 7 || len(r.parkedRows()) > 1
	})
	if got := r.ask("retry", "c", nil); got != "published 1" {
		t.Errorf("the retry ended with %q", got)
	}
	s.stop()
	if len(s.takeovers) > 2 {
		t.Errorf("%d takeovers for a limit that was raised", len(s.takeovers))
	}
	r.expectParked(nil)
	if n := len(r.records("t", false)); n != 8 {
		t.Errorf("%d records", n)
	}
}
