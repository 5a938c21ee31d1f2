package topics

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

const orders = "orders"

// cluster is a fake cluster with the topic orders of three partitions, and a client of its
// administrator.
func cluster(t *testing.T) (*kfake.Cluster, *kadm.Client) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, orders))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return c, kadm.NewClient(client)
}

func newRegistry(admin *kadm.Client) *Registry {
	return NewRegistry(admin, NewUnavailable(time.Hour), Options{Logger: slog.New(slog.DiscardHandler)})
}

func TestTheRegistryLearnsWhatTopicsTake(t *testing.T) {
	t.Parallel()
	c, admin := cluster(t)
	if err := c.CreateTopic("small", 3, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	registry := newRegistry(admin)
	records := []kgo.Record{{Topic: orders}, {Topic: "small"}, {Topic: "missing"}, {Topic: orders}, {Topic: "missing"}, {Topic: "none of this"}}
	if got, want := registry.Unknown(records, []int{5}), []string{orders, "small", "missing"}; !slices.Equal(got, want) {
		t.Errorf("unknown are %q, want %q", got, want)
	}
	if err := registry.LookUp(t.Context(), registry.Unknown(records, []int{5})); err != nil {
		t.Error(err)
	}
	err := registry.Unavailable.Waiting(registry.Unknown(records, []int{5}))
	if err == nil || !strings.Contains(err.Error(), "topic missing does not exist") {
		t.Errorf("what is waited for: %v", err)
	}
	if got := registry.Unknown(records, []int{5}); !slices.Equal(got, []string{"missing"}) {
		t.Errorf("after the look-up unknown are %q", got)
	}
	for topic, want := range map[string]int32{"small": 2000, orders: 1048588, "never seen": MaxRecordBytes} {
		if got := registry.BatchMaxBytes(topic); got != want {
			t.Errorf("%s takes batches of %d bytes, want %d", topic, got, want)
		}
	}
}

// A session spreads keys over as many partitions as at its first look, also when it looks at the
// topic again.
func TestASessionKeepsTheNumberOfPartitions(t *testing.T) {
	t.Parallel()
	_, admin := cluster(t)
	registry := newRegistry(admin)
	if err := registry.LookUp(t.Context(), []string{orders}); err != nil {
		t.Fatal(err)
	}
	responses, err := admin.UpdatePartitions(t.Context(), 7, orders)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	registry.Forget(orders) // as if it was unavailable for a moment
	if err := registry.LookUp(t.Context(), []string{orders}); err != nil {
		t.Fatal(err)
	}
	if known, _ := registry.Known(orders); known.MaxBytes == 0 {
		t.Fatal("the topic was not looked up")
	}
	if n := registry.KeysSpreadOver(orders, 7); n != 3 {
		t.Errorf("keys are spread over %d partitions, and were over 3 before", n)
	}
}
