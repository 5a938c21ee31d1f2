package relay

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// observed is a lane that is told to nobody but the recorder.
func observed(rows int) (*lane, *recorder) {
	seen := newRecorder()
	cfg := Config{Hooks: seen.hooks(), BatchRows: rows}.WithDefaults()
	return newLane(&cfg, cfg.Lanes[0], "owner", newMembership()), seen
}

func TestAStateIsToldOnceEachTimeItChanges(t *testing.T) {
	l, seen := observed(10)
	if got := l.status(); got.State != Standby || got.Lane != "outbox" || got.Since.IsZero() {
		t.Errorf("a new lane is %+v", got)
	}
	for _, s := range []struct {
		state  State
		reason string
	}{{Waiting, "a"}, {Waiting, "a"}, {Waiting, "b"}, {Running, ""}, {Running, ""}, {Waiting, "b"}} {
		l.change(s.state, s.reason)
	}
	var told []string
	for _, s := range seen.states {
		told = append(told, string(s.State)+s.Reason)
	}
	if want := []string{"waitinga", "waitingb", "running", "waitingb"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

func TestOnlyTheRecordsOwnFaultsCondemnARow(t *testing.T) {
	for _, err := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord} {
		if !isRowFault(fmt.Errorf("produce: %w", err)) {
			t.Errorf("%v is no fault of the row", err)
		}
	}
	for _, err := range []error{
		nil, context.DeadlineExceeded, kgo.ErrRecordTimeout, kerr.TopicAuthorizationFailed, kerr.UnknownTopicOrPartition, kerr.NotLeaderForPartition,
		kerr.NotEnoughReplicas, kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.UnknownServerError, kerr.PolicyViolation, kerr.ThrottlingQuotaExceeded,
	} {
		if isRowFault(err) {
			t.Errorf("%v is taken for a fault of the row", err)
		}
	}
}

func TestTopicRegistryLearnsWhatTopicsTake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.small("small.order")
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	cfg := r.config().WithDefaults()
	topics := newTopicRegistry(&cfg, kadm.NewClient(client), newOutages(time.Hour))
	p := &page{records: []kgo.Record{{Topic: orders}, {Topic: "small.order"}, {Topic: "missing"}, {Topic: orders}, {Topic: "missing"}}}
	if got, want := topics.unknown(p), []string{orders, "small.order", "missing"}; !slices.Equal(got, want) {
		t.Errorf("unknown are %q, want %q", got, want)
	}
	if err := topics.lookUp(t.Context(), topics.unknown(p)); err != nil {
		t.Error(err)
	}
	if err := topics.outages.waiting(topics.unknown(p)); err == nil || !strings.Contains(err.Error(), "topic missing does not exist") {
		t.Errorf("what is waited for: %v", err)
	}
	if got := topics.unknown(p); !slices.Equal(got, []string{"missing"}) {
		t.Errorf("after the look-up unknown are %q", got)
	}
	for topic, want := range map[string]int32{"small.order": 2000, orders: 1048588, "never seen": mostRecordBytes} {
		if got := topics.batchMaxBytes(topic); got != want {
			t.Errorf("%s takes batches of %d bytes, want %d", topic, got, want)
		}
	}
}
