package relay

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Each lane has a partition of the checkpoint topic. One that has no leader is a matter of its own
// lane.
func TestAPartitionOfAnotherLaneWithoutALeaderHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := r.config()
	exec(t, r.conn, `CREATE TABLE elsewhere (LIKE outbox INCLUDING ALL)`)
	cfg.Lanes = []Lane{{Name: "other", Table: "elsewhere"}, {Name: "outbox", Table: "outbox"}}
	topic := checkpoint.TopicName(cfg.Name)
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		asked := request.(*kmsg.ListOffsetsRequest)
		for _, t := range asked.Topics {
			for _, p := range t.Partitions {
				if t.Topic == topic && p.Partition == 0 {
					return leaderless(asked), nil, true
				}
			}
		}
		return nil, nil, false
	})
	want := r.insertOrders(5, "v")
	s := r.start(cfg)
	s.awaitRows(t, 5)
	s.await(t, "the lane of the partition waits", func(rec *recorder) bool {
		return slices.ContainsFunc(rec.states, func(s LaneStatus) bool {
			return s.Lane == "other" && s.State == Waiting && strings.Contains(s.Reason, kerr.LeaderNotAvailable.Message)
		})
	})
	s.stop()
	r.expect(orders, want)
}

// A broker that answers late is not taken for an empty log: the takeover would fence the lane of
// another database that has the same name.
func TestASlowBrokerIsNotTakenForAnEmptyLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.insertOrders(3, "v")
	r.runOnce(r.config())
	r.cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		r.cluster.SleepControl(func() {
			select {
			case <-time.After(2500 * time.Millisecond):
			case <-t.Context().Done():
			}
		})
		return nil, nil, false
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(r.cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	last, err := checkpoint.NewLog(client, checkpoint.LogOptions{
		Lane: "outbox", Topic: checkpoint.TopicName("test"), ClientOptions: []kgo.Opt{kgo.SeedBrokers(r.cluster.ListenAddrs()...)},
	}).ReadUnfenced(t.Context())
	if err != nil || last == nil || last.Seq == 0 {
		t.Errorf("read %+v, %v", last, err)
	}
}

func leaderless(request *kmsg.ListOffsetsRequest) kmsg.Response {
	response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, t := range request.Topics {
		topic := kmsg.NewListOffsetsResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			partition := kmsg.NewListOffsetsResponseTopicPartition()
			partition.Partition, partition.ErrorCode = p.Partition, kerr.LeaderNotAvailable.Code
			topic.Partitions = append(topic.Partitions, partition)
		}
		response.Topics = append(response.Topics, topic)
	}
	return response
}
