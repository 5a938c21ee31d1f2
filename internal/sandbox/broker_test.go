package sandbox_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/sandbox"
)

func startBroker(t *testing.T, options sandbox.BrokerOptions) *sandbox.Broker {
	t.Helper()
	broker, err := sandbox.StartBroker(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Stop)
	return broker
}

func client(t *testing.T, broker *sandbox.Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(broker.Addresses...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestBrokerSpeaksTheTransactionsOfKafka4(t *testing.T) {
	broker := startBroker(t, sandbox.BrokerOptions{})
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "test", "1"
	response, err := request.RequestWith(t.Context(), client(t, broker))
	if err != nil {
		t.Fatal(err)
	}
	atLeast := map[int16]int16{kmsg.Produce.Int16(): 12, kmsg.EndTxn.Int16(): 5, kmsg.TxnOffsetCommit.Int16(): 5}
	for _, key := range response.ApiKeys {
		if want, ok := atLeast[key.ApiKey]; ok && key.MaxVersion < want {
			t.Errorf("%s up to version %d, want %d", kmsg.NameForKey(key.ApiKey), key.MaxVersion, want)
		}
	}
	for _, feature := range response.FinalizedFeatures {
		if feature.Name == "transaction.version" && feature.MaxVersionLevel == 2 {
			return
		}
	}
	t.Errorf("transaction.version is not finalized at 2: %+v", response.FinalizedFeatures)
}

func TestBrokerShowsReadCommittedOnlyWhatWasCommitted(t *testing.T) {
	broker := startBroker(t, sandbox.BrokerOptions{Topics: []string{"orders"}, Partitions: 1})
	producer := client(t, broker, kgo.TransactionalID("one"))
	for _, try := range []struct {
		value string
		end   kgo.TransactionEndTry
	}{{"aborted", kgo.TryAbort}, {"committed", kgo.TryCommit}, {"aborted again", kgo.TryAbort}, {"committed too", kgo.TryCommit}} {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		record := &kgo.Record{Topic: "orders", Value: []byte(try.value)}
		if err := producer.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), try.end); err != nil {
			t.Fatal(err)
		}
	}
	consumer := client(t, broker, kgo.ConsumeTopics("orders"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	values := poll(t, consumer, 2)
	if got := strings.Join(values, ", "); got != "committed, committed too" {
		t.Fatalf("read %q", got)
	}
}

func TestBrokerMovesAPartitionToTheMemberThatIsLeft(t *testing.T) {
	broker := startBroker(t, sandbox.BrokerOptions{Topics: []string{"lanes"}, Partitions: 1})
	assigned := make(chan string, 10)
	member := func(name string) *kgo.Client {
		return client(t, broker,
			kgo.ConsumeTopics("lanes"), kgo.ConsumerGroup("relays"),
			kgo.SessionTimeout(500*time.Millisecond), kgo.HeartbeatInterval(100*time.Millisecond),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
				if len(partitions) > 0 {
					assigned <- name
				}
			}))
	}
	first := member("first")
	expect(t, assigned, "first")
	member("second")
	first.Close()
	expect(t, assigned, "second")
}

func expect(t *testing.T, events <-chan string, want string) {
	t.Helper()
	for {
		select {
		case got := <-events:
			if got == want {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s was never assigned the partition", want)
		}
	}
}

func poll(t *testing.T, consumer *kgo.Client, most int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var values []string
	for len(values) < most {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("poll after %q: %v", values, err)
		}
		fetches.EachRecord(func(record *kgo.Record) { values = append(values, string(record.Value)) })
	}
	return values
}

func TestStopTwiceIsHarmless(t *testing.T) {
	broker := startBroker(t, sandbox.BrokerOptions{})
	broker.Stop()
	broker.Stop()
}
