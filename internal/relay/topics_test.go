package relay

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A session spreads keys over as many partitions as at its first look, also where it looks at the topic again.
func TestASessionKeepsTheNumberOfPartitions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config().WithDefaults()
	client, err := kgo.NewClient(clientOptions(&cfg)...)
	if err != nil {
		t.Fatal(err)
	}
	admin := kadm.NewClient(client)
	defer admin.Close()
	topics := newTopicRegistry(&cfg, admin, newOutages(time.Hour))
	if err := topics.lookUp(t.Context(), []string{orders}); err != nil {
		t.Fatal(err)
	}
	responses, err := admin.UpdatePartitions(t.Context(), 7, orders)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	topics.forget(orders) // as where it was away for a moment
	if err := topics.lookUp(t.Context(), []string{orders}); err != nil {
		t.Fatal(err)
	}
	if known, _ := topics.look(orders); known.maxBytes == 0 {
		t.Fatal("the topic was not looked up")
	}
	if n := topics.partitions(orders, 7); n != 3 {
		t.Errorf("keys are spread over %d partitions, and were over 3 before", n)
	}
}
