package kafkatx

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A broker that is gone does not answer that it is no longer the coordinator.
func TestCoordinatorsAreFoundAgainAfterABrokerIsGone(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RequestRetries(2),
		kgo.RetryTimeout(3*time.Second), kgo.MetadataMinAge(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	ids := make([]string, 12)
	for i := range ids {
		ids[i] = fmt.Sprintf("id-%d", i)
		eventuallyTaken(t, client, ids[i])
	}
	coordinators := NewCoordinators(client)
	states, err := coordinators.Ask(t.Context(), ids...)
	if err != nil || len(states) != len(ids) {
		t.Fatalf("%d of %d ids were answered: %v", len(states), len(ids), err)
	}
	if nodes := coordinators.byNode(ids); len(nodes) != 3 {
		t.Fatalf("the ids are spread over %d of 3 brokers", len(nodes))
	}
	if err := cluster.RemoveNode(1); err != nil {
		t.Fatal(err)
	}
	// The first question after that still gets the answers of the others.
	if states, err = coordinators.Ask(t.Context(), ids...); err == nil || len(states) == 0 {
		t.Errorf("%d of %d ids were answered: %v", len(states), len(ids), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		if states, err = coordinators.Ask(ctx, ids...); err == nil && len(states) == len(ids) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%d of %d ids were answered: %v", len(states), len(ids), err)
		}
	}
}

func eventuallyTaken(t *testing.T, client *kgo.Client, id string) {
	t.Helper()
	for range 100 {
		if _, _, taken, err := Take(t.Context(), client, id, 10_000); err != nil {
			t.Fatal(err)
		} else if taken {
			return
		}
	}
	t.Fatalf("%s cannot be taken", id)
}
