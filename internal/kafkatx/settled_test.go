package kafkatx

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const orders = "orders"

// aCluster has one broker and a topic of one partition.
func aCluster(t *testing.T) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, orders))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return cluster, client
}

// anOpenTransaction writes a record in a transaction that stays open, and returns its offset.
func anOpenTransaction(t *testing.T, cluster *kfake.Cluster, id string) int64 {
	t.Helper()
	producer, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID(id))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(producer.Close)
	if err := producer.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	record, err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: orders, Value: []byte("paid")}).First()
	if err != nil {
		t.Fatal(err)
	}
	return record.Offset
}

// A leader that was replaced, and does not know it, has a marker that no other replica has. Its
// last stable offset stays.
func TestAMarkerThatOnlyOneReplicaHasClosesNothing(t *testing.T) {
	cluster, client := aCluster(t)
	offset := anOpenTransaction(t, cluster, "id")
	place := Place{orders, 0}
	places, ends := Partitions{orders: {0}}, map[Place]int64{place: offset + 1}
	if seen := Look(t.Context(), client, places, ends); len(seen.Open) != 1 || len(seen.Unseen) != 0 {
		t.Fatalf("an open transaction was not seen: %+v", seen)
	}
	cluster.ControlKey(int16(kmsg.DescribeProducers), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.DescribeProducersResponse)
		topic := kmsg.NewDescribeProducersResponseTopic()
		topic.Topic = orders
		topic.Partitions = append(topic.Partitions, kmsg.NewDescribeProducersResponseTopicPartition())
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	for name, ends := range map[string]map[Place]int64{"with the end": ends, "without": nil} {
		if seen := Look(t.Context(), client, places, ends); !errors.Is(seen.Unseen[place], ErrUnsettled) {
			t.Errorf("%s: a marker that is not replicated was believed: %+v", name, seen)
		}
	}
	// The topic was made again and is shorter than what was acknowledged.
	cluster.ControlKey(int16(kmsg.ListOffsets), func(request kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = orders
		partition := kmsg.NewListOffsetsResponseTopicPartition()
		partition.Offset = 0
		topic.Partitions = append(topic.Partitions, partition)
		response.Topics = append(response.Topics, topic)
		return response, nil, true
	})
	if seen := Look(t.Context(), client, places, ends); len(seen.Unseen)+len(seen.Open) != 0 {
		t.Errorf("a topic that was made again: %+v", seen)
	}
}

// Between the question to the coordinator and the marker another owner has used the id.
func TestAnIdThatWasUsedMeanwhileDecidesNothing(t *testing.T) {
	cluster, client := aCluster(t)
	offset := anOpenTransaction(t, cluster, "late")
	eventuallyTaken(t, client, "id")
	states, err := NewCoordinators(client).Ask(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	eventuallyTaken(t, client, "id") // by another owner
	open := []Open{{Place: Place{orders, 0}, ProducerID: states["id"].ProducerID, Start: offset}}
	if done, err := Finish(t.Context(), client, "id", 10_000, states["id"], open, false); err != nil || done {
		t.Errorf("an id that was used meanwhile has decided: %v, %v", done, err)
	}
	states, err = NewCoordinators(client).Ask(t.Context(), "id")
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		done, err := Finish(t.Context(), client, "id", 10_000, states["id"], open, false)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("an id that nobody uses does not decide")
		}
		if states, err = NewCoordinators(client).Ask(t.Context(), "id"); err != nil {
			t.Fatal(err)
		}
	}
}

// Records of an aborted transaction may lie behind the last one that was acknowledged, and a
// transaction that is open begins below its own end.
func TestOnlyWhatIsStableBeyondACommittedTransactionClosesIt(t *testing.T) {
	place, other := Place{orders, 0}, Place{orders, 1}
	ends := map[Place]int64{place: 5, other: 9}
	passed := map[Place]offset{place: {offset: 6}, other: {offset: 9}}
	if e := (&ended{commit: true, ends: ends}); !e.passed(passed) {
		t.Error("a transaction below the last stable offsets counts as open")
	}
	for name, c := range map[string]struct {
		ended  ended
		stable map[Place]offset
	}{
		"aborted":          {ended{ends: ends}, passed},
		"one is behind":    {ended{commit: true, ends: ends}, map[Place]offset{place: {offset: 6}, other: {offset: 8}}},
		"one did not say":  {ended{commit: true, ends: ends}, map[Place]offset{place: {offset: 6}}},
		"one has failed":   {ended{commit: true, ends: ends}, map[Place]offset{place: {offset: 6}, other: {9, errNoAnswer}}},
		"nothing is known": {ended{commit: true, ends: map[Place]int64{place: 0}}, passed},
	} {
		if c.ended.passed(c.stable) {
			t.Errorf("%s: the transaction counts as closed", name)
		}
	}
}
