package kit

import (
	"context"
	"errors"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/cluster"
)

// Brokers are the bootstrap servers of the Kafka of this run.
func Brokers(t testing.TB) []string {
	t.Helper()
	return OneBroker(t).Bootstrap
}

// OneBroker is the Kafka of this run, for tests that use its tools. It must not be killed: other
// tests run on it.
func OneBroker(t testing.TB) *cluster.Cluster {
	t.Helper()
	kafka, err := sharedKafka()
	if err != nil {
		t.Fatalf("no Kafka: %v\nset %s to use brokers of your own", err, cluster.Variable)
	}
	return kafka
}

// ThreeBrokers starts a cluster of three for this test alone, to be killed.
func ThreeBrokers(t testing.TB) *cluster.Cluster {
	t.Helper()
	return OwnCluster(t, cluster.Options{Brokers: 3})
}

// OwnCluster starts a cluster for this test alone, to be killed.
func OwnCluster(t testing.TB, options cluster.Options) *cluster.Cluster {
	t.Helper()
	if KeepDir() != "" {
		options.Dir = filepath.Join(KeepDir(), "kafka-"+uuid.NewString()[:8])
	}
	kafka, err := cluster.Start(t.Context(), options)
	if err != nil {
		t.Fatalf("no Kafka: %v", err)
	}
	t.Cleanup(func() {
		if err := kafka.Stop(); err != nil {
			t.Error(err)
		}
	})
	return kafka
}

// KafkaClient makes a client that is closed when the test ends. It learns of new topics at once.
func KafkaClient(t testing.TB, bootstrap []string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(100 * time.Millisecond),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// Topic makes a topic with its own name on the Kafka of this run, and deletes it when the test
// ends.
func Topic(t testing.TB, partitions int32) string {
	t.Helper()
	name := UniqueName(t)
	CreateTopic(t, Brokers(t), name, partitions)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		client, err := kgo.NewClient(kgo.SeedBrokers(Brokers(t)...))
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		if _, err := kadm.NewClient(client).DeleteTopic(ctx, name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// CreateTopic makes a topic, replicated as the cluster's default says, and waits until each
// partition has a leader.
func CreateTopic(t testing.TB, bootstrap []string, name string, partitions int32) {
	t.Helper()
	admin := kadm.NewClient(KafkaClient(t, bootstrap))
	if _, err := admin.CreateTopic(t.Context(), partitions, -1, nil, name); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	Eventually(t, 30*time.Second, "every partition of "+name+" has a leader", func() bool {
		details, err := admin.ListTopics(t.Context(), name)
		if err != nil || details[name].Err != nil {
			return false
		}
		for _, partition := range details[name].Partitions {
			if partition.Leader < 0 {
				return false
			}
		}
		return len(details[name].Partitions) == int(partitions)
	})
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// UniqueName makes a name from the test's, fit for topics and groups, that no other test and no
// other run has.
func UniqueName(t testing.TB) string {
	name := notInNames.ReplaceAllString(t.Name(), "-")
	return name[:min(len(name), 60)] + "-" + uuid.NewString()[:8]
}

// Consume reads committed records of the topics from their beginning, and returns n of them, in the
// order in which they arrived. It fails the test if they do not arrive in time.
func Consume(t testing.TB, bootstrap []string, n int, timeout time.Duration, topics ...string) []*kgo.Record {
	t.Helper()
	return ConsumeUntil(t, bootstrap, timeout, func(records []*kgo.Record) bool { return len(records) >= n }, topics...)
}

// ConsumeUntil reads committed records of the topics from their beginning until enough says so of
// all that were read.
func ConsumeUntil(t testing.TB, bootstrap []string, timeout time.Duration, enough func([]*kgo.Record) bool, topics ...string,
) []*kgo.Record {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	var records []*kgo.Record
	for !enough(records) {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Logf("fetch %s/%d: %v", topic, partition, err)
			}
		})
		records = append(records, fetches.Records()...)
		if ctx.Err() != nil && !enough(records) {
			t.Fatalf("%d records of %v after %v, and not enough", len(records), topics, timeout)
		}
	}
	return records
}

// Eventually waits until the condition holds, and fails the test if it does not in time.
func Eventually(t testing.TB, timeout time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(timeout)
	pause := time.Millisecond
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", timeout, what)
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

// ContextOfCleanup is a context for what a test does after its own has ended.
func ContextOfCleanup(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
