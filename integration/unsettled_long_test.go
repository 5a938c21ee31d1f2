//go:build long

package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/cluster"
)

// A partition has no leader at the moment of a commit: Kafka notes that the transaction is complete and leaves the
// partition without a marker (KAFKA-20734). One relay is killed then, and its successors with a transaction open on that
// partition; another lives on and has nothing more to publish. No row is hidden, and nobody waits.
func TestACommitWithoutItsMarkersHidesNothing(t *testing.T) {
	kafka := ownCluster(t, cluster.Options{Brokers: 3, StartTimeout: 4 * time.Minute})
	const topic = "unsettled.account"
	admin := kadm.NewClient(kafkaClient(t, kafka.Bootstrap))
	alone := "1"
	if _, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"min.insync.replicas": &alone}, topic); err != nil {
		t.Fatal(err)
	}
	leader := func() int32 {
		topics, err := admin.ListTopics(t.Context(), topic)
		if err != nil || topics[topic].Err != nil {
			return -2
		}
		return topics[topic].Partitions[0].Leader
	}
	eventually(t, time.Minute, "the topic has a leader", func() bool { return leader() >= 0 })
	node := int(leader())

	urls := []string{database(t), database(t)}
	var settings [2][]string
	var relays [2]*relayProcess
	for i, url := range urls {
		settings[i] = relaySettings(t, url, kafka.Bootstrap, "RELAY_ROUTE=unsettled.{aggregate_type}")
		event(t, url, fmt.Sprintf("%d-first", i))
		relays[i] = startRelay(t, append(settings[i], "RELAY_FAILPOINT=before-end:1:stop"), "run")
	}
	for i, url := range urls {
		eventually(t, time.Minute, "the batch is intended", func() bool { return laneSeq(t, url) == 1 })
		eventually(t, time.Minute, "the relay is stopped", func() bool { return stopped(t, relays[i]) })
	}
	if err := kafka.Kill(node); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the partition has no leader", func() bool { return leader() == -1 })
	for i := range urls {
		relays[i].Resume()
	}
	for _, url := range urls {
		eventually(t, time.Minute, "the batch is confirmed", func() bool {
			return count(t, url, `SELECT count(*) FROM relay_lanes WHERE confirmed_seq = 1`) == 1
		})
	}
	relays[0].Kill()
	if err := kafka.Revive(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	event(t, urls[0], "0-second")
	second := startRelay(t, append(settings[0], "RELAY_FAILPOINT=before-end:1:kill"), "run")
	second.Wait(time.Minute)
	third := startRelay(t, settings[0], "run")
	want := []string{"0-first", "0-second", "1-first"}
	var got []string
	for _, r := range consumeUntil(t, kafka.Bootstrap, time.Minute, func(records []*kgo.Record) bool {
		return slices.ContainsFunc(records, func(r *kgo.Record) bool { return string(r.Value) == "0-second" })
	}, topic) {
		got = append(got, string(r.Value))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("read_committed shows %v, want %v", got, want)
	}
	for _, r := range []*relayProcess{relays[1], third} {
		r.Terminate()
		r.Wait(time.Minute)
	}
}

// stopped reports whether the process was stopped by a signal.
func stopped(t testing.TB, r *relayProcess) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.ID()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "T")
}
