//go:build long

package relay

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/cluster"
	"github.com/outbox-relay/relay/integration/kit"
)

// A partition has no leader at the moment of a commit: Kafka notes that the transaction is complete
// and leaves the partition without a marker (KAFKA-20734). One relay is killed then, and its
// successors with a transaction open on that partition; another lives on and has nothing more to
// publish. No row is hidden, and no reader waits.
func TestACommitWithoutItsMarkersHidesNothing(t *testing.T) {
	kafka := kit.OwnCluster(t, cluster.Options{Brokers: 3, StartTimeout: 4 * time.Minute})
	const topic = "unsettled.account"
	admin := kadm.NewClient(kit.KafkaClient(t, kafka.Bootstrap))
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
	kit.Eventually(t, time.Minute, "the topic has a leader", func() bool { return leader() >= 0 })
	node := int(leader())

	urls := []string{kit.Database(t), kit.Database(t)}
	var settings [2][]string
	var relays [2]*kit.RelayProcess
	for i, url := range urls {
		settings[i] = kit.RelaySettings(t, url, kafka.Bootstrap, "RELAY_ROUTE=unsettled.{aggregate_type}")
		event(t, url, fmt.Sprintf("%d-first", i))
		relays[i] = kit.StartRelay(t, append(settings[i], "RELAY_FAILPOINT=before-end:1:stop"), "run")
	}
	for i, url := range urls {
		kit.Eventually(t, time.Minute, "the batch is intended", func() bool { return kit.LaneSeq(t, url) == 1 })
		kit.Eventually(t, time.Minute, "the relay is stopped", func() bool { return stopped(t, relays[i]) })
	}
	if err := kafka.Kill(node); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, time.Minute, "the partition has no leader", func() bool { return leader() == -1 })
	for i := range urls {
		relays[i].Resume()
	}
	for _, url := range urls {
		kit.Eventually(t, time.Minute, "the batch is confirmed", func() bool {
			return count(t, url, `SELECT count(*) FROM relay_lanes WHERE confirmed_seq = 1`) == 1
		})
	}
	relays[0].Kill()
	if err := kafka.Revive(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	event(t, urls[0], "0-second")
	second := kit.StartRelay(t, append(settings[0], "RELAY_FAILPOINT=before-end:1:kill"), "run")
	second.Wait(time.Minute)
	third := kit.StartRelay(t, settings[0], "run")
	want := []string{"0-first", "0-second", "1-first"}
	var got []string
	for _, r := range kit.ConsumeUntil(t, kafka.Bootstrap, time.Minute, func(records []*kgo.Record) bool {
		return slices.ContainsFunc(records, func(r *kgo.Record) bool { return string(r.Value) == "0-second" })
	}, topic) {
		got = append(got, string(r.Value))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("read_committed shows %v, want %v", got, want)
	}
	for _, r := range []*kit.RelayProcess{relays[1], third} {
		r.Terminate()
		r.Wait(time.Minute)
	}
}

// stopped reports whether the process was stopped by a signal.
func stopped(t testing.TB, r *kit.RelayProcess) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", r.ID()))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(after, "T")
}

// What the README asks of a cluster: three replicas, two in sync. All brokers are killed at once
// under load and come back in any order, and the relay is killed while they do. Afterwards no
// partition holds a transaction open that is complete for its coordinator. RELAY_TEST_OUTAGES sets
// how often; 3 unless set.
func TestAllBrokersAreKilledAtOnce(t *testing.T) {
	rounds := 3
	if text := os.Getenv("RELAY_TEST_OUTAGES"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("RELAY_TEST_OUTAGES=%q is not a number from 1", text)
		}
	}
	kafka := kit.OwnCluster(t, cluster.Options{Brokers: 3, StartTimeout: 4 * time.Minute})
	url := kit.Database(t)
	settings := kit.RelaySettings(t, url, kafka.Bootstrap, "RELAY_BATCH_ROWS=200")
	load := kit.StartWorkload(t, url, 8, &kit.Workload{Pause: 10 * time.Millisecond})
	r := kit.StartRelay(t, settings, "run")
	for range rounds {
		kit.AwaitGoingOn(t, url)
		kit.StrikeCluster(t, kafka, func() {
			kit.Wait(t.Context(), time.Duration(rand.Int64N(int64(5*time.Second))))
			r.Kill()
			r = kit.StartRelay(t, settings, "run")
		})
	}
	kit.AwaitGoingOn(t, url)
	survived(t, load, r, settings, "outbox.event.account")
	if written := strings.Count(string(r.Stderr()), "the brokers have left out the marker"); written > 0 {
		t.Logf("%d markers were written that the brokers had left out", written)
	}
	nothingOpen(t, kafka.Bootstrap)
}

// nothingOpen sees that no partition of any topic holds a transaction open.
func nothingOpen(t *testing.T, bootstrap []string) {
	t.Helper()
	admin := kadm.NewClient(kit.KafkaClient(t, bootstrap))
	var open []kadm.DescribedProducer
	kit.Eventually(t, time.Minute, "every partition can be asked for its producers", func() bool {
		open = nil
		all, err := admin.DescribeProducers(t.Context(), nil)
		if err != nil {
			t.Log(err)
			return false
		}
		seen := true
		all.EachPartition(func(p kadm.DescribedProducersPartition) { seen = seen && p.Err == nil })
		all.EachProducer(func(p kadm.DescribedProducer) {
			if p.CurrentTxnStartOffset >= 0 {
				open = append(open, p)
			}
		})
		return seen && len(all) > 1
	})
	for _, p := range open {
		t.Errorf("%s/%d holds a transaction of producer %d, epoch %d, open from offset %d", p.Topic, p.Partition, p.ProducerID,
			p.ProducerEpoch, p.CurrentTxnStartOffset)
	}
}
