package kafkatx

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Place is a partition of a topic.
type Place struct {
	Topic     string
	Partition int32
}

func (p Place) String() string { return fmt.Sprintf("%s/%d", p.Topic, p.Partition) }

// Partitions are partitions of topics.
type Partitions map[string][]int32

// Add adds a partition.
func (p Partitions) Add(place Place) { p[place.Topic] = append(p[place.Topic], place.Partition) }

// State is what a coordinator says of a transactional id, in Kafka's words.
type State string

// The states that matter. A coordinator that is about to write markers says PrepareCommit or PrepareAbort, and one that
// has written them, or has left them out, CompleteCommit or CompleteAbort. InitProducerId makes both of these Empty.
const (
	Empty          State = "Empty"
	Ongoing        State = "Ongoing"
	CompleteCommit State = "CompleteCommit"
	CompleteAbort  State = "CompleteAbort"
)

// Decided reports whether the last transaction of the id is over as far as its coordinator is concerned.
func (s State) Decided() bool {
	return s == Empty || s == CompleteCommit || s == CompleteAbort || s == "Dead" || s == ""
}

// Coordinated is the last transaction of a transactional id as its coordinator knows it.
type Coordinated struct {
	// State is empty if the coordinator does not know the id.
	State State
	// ProducerID and Epoch are those of the next transaction, or of the one that is ongoing.
	ProducerID int64
	Epoch      int16
	// Partitions of the transaction that is ongoing, as far as this client may describe their topics.
	Partitions Partitions
}

// Open is a transaction that a partition holds open.
type Open struct {
	Place
	// ProducerID and Epoch of what was written last. With transaction.version 2 each transaction has an epoch.
	ProducerID int64
	Epoch      int16
	// Start is the first offset of the transaction: read_committed readers do not pass it.
	Start int64

	coordinatorEpoch int32
}

// Seen is what partitions say of the transactions that are open on them.
type Seen struct {
	Open []Open
	// Unseen are the partitions that gave no answer, and why.
	Unseen map[Place]error
}

// Look asks partitions for the transactions that are open on them. A partition that cannot be asked is in Unseen.
func Look(ctx context.Context, client *kgo.Client, partitions Partitions) Seen {
	seen := Seen{Unseen: make(map[Place]error)}
	request := kmsg.NewPtrDescribeProducersRequest()
	missing := make(map[Place]bool)
	for topic, numbers := range partitions {
		t := kmsg.NewDescribeProducersRequestTopic()
		t.Topic, t.Partitions = topic, numbers
		request.Topics = append(request.Topics, t)
		for _, n := range numbers {
			missing[Place{topic, n}] = true
		}
	}
	if len(missing) == 0 {
		return seen
	}
	var failed error
	for _, shard := range client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			failed = shard.Err
			for _, t := range shard.Req.(*kmsg.DescribeProducersRequest).Topics {
				for _, n := range t.Partitions {
					seen.Unseen[Place{t.Topic, n}] = shard.Err
					delete(missing, Place{t.Topic, n})
				}
			}
			continue
		}
		for _, t := range shard.Resp.(*kmsg.DescribeProducersResponse).Topics {
			for i := range t.Partitions {
				place := Place{t.Topic, t.Partitions[i].Partition}
				delete(missing, place)
				delete(seen.Unseen, place)
				seen.add(place, &t.Partitions[i])
			}
		}
	}
	for place := range missing {
		seen.Unseen[place] = cmpOr(failed, errNoAnswer)
	}
	return seen
}

var errNoAnswer = errors.New("no answer")

func cmpOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (s *Seen) add(place Place, p *kmsg.DescribeProducersResponseTopicPartition) {
	if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
		s.Unseen[place] = err
		return
	}
	for _, a := range p.ActiveProducers {
		if a.CurrentTxnStartOffset >= 0 {
			s.Open = append(s.Open, Open{
				Place: place, ProducerID: a.ProducerID, Epoch: int16(a.ProducerEpoch), Start: a.CurrentTxnStartOffset,
				coordinatorEpoch: a.CoordinatorEpoch,
			})
		}
	}
}

// PartitionsOf lists the partitions of topics. Those of a topic that does not exist, or about which nothing can be
// learnt now, are in unseen under partition 0.
func PartitionsOf(ctx context.Context, client *kgo.Client, topics ...string) (partitions Partitions, unseen map[Place]error, err error) {
	partitions, unseen = make(Partitions), make(map[Place]error)
	if len(topics) == 0 {
		return partitions, unseen, nil
	}
	details, err := kadm.NewClient(client).ListTopics(ctx, topics...)
	if err != nil {
		return nil, nil, fmt.Errorf("look up topics: %w", err)
	}
	for _, topic := range topics {
		switch detail, ok := details[topic]; {
		case !ok:
			unseen[Place{topic, 0}] = errNoAnswer
		case detail.Err != nil:
			unseen[Place{topic, 0}] = detail.Err
		default:
			partitions[topic] = detail.Partitions.Numbers()
		}
	}
	return partitions, unseen, nil
}
