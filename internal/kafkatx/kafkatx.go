package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

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

func (p Partitions) size() (n int) {
	for _, numbers := range p {
		n += len(numbers)
	}
	return n
}

// Add adds a partition.
func (p Partitions) Add(place Place) { p[place.Topic] = append(p[place.Topic], place.Partition) }

// merge adds the partitions that are missing.
func (p Partitions) merge(other Partitions) {
	for topic, numbers := range other {
		for _, n := range numbers {
			if !slices.Contains(p[topic], n) {
				p[topic] = append(p[topic], n)
			}
		}
	}
}

// State is what a coordinator says of a transactional id, in Kafka's words.
type State string

// The states that matter. A coordinator that is about to write markers says PrepareCommit or
// PrepareAbort, and one that has written them, or has left them out, CompleteCommit or
// CompleteAbort. InitProducerId makes both of these Empty.
const (
	Empty          State = "Empty"
	Ongoing        State = "Ongoing"
	CompleteCommit State = "CompleteCommit"
	CompleteAbort  State = "CompleteAbort"
)

// Decided reports whether the last transaction of the id is over as far as its coordinator is
// concerned.
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
	// Partitions of the transaction that is ongoing, as far as this client may describe their
	// topics.
	Partitions Partitions
}

// Open is a transaction that a partition holds open.
type Open struct {
	Place
	// ProducerID and Epoch of what was written last. With transaction.version 2 each transaction
	// has an epoch.
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

// Look asks partitions for the transactions that are open on them. A partition that cannot be asked
// is in Unseen, and so is one whose last marker is not on its in-sync replicas yet (ErrUnsettled):
// a leader that has been replaced and does not know it may show a marker that no other replica has.
//
// ends are offsets behind the last acknowledged record of the transactions that are asked about. A
// partition without one is asked for its high watermark first.
func Look(ctx context.Context, client *kgo.Client, partitions Partitions, ends map[Place]int64) Seen {
	seen := Seen{Unseen: make(map[Place]error)}
	if partitions.size() == 0 {
		return seen
	}
	bounds := make(map[Place]int64, partitions.size())
	var without Partitions
	for topic, numbers := range partitions {
		for _, n := range numbers {
			if end, ok := ends[Place{topic, n}]; ok {
				bounds[Place{topic, n}] = end
				continue
			}
			if without == nil {
				without = make(Partitions)
			}
			without.Add(Place{topic, n})
		}
	}
	highs := offsets(ctx, client, without, uncommitted)
	stable := make(chan map[Place]offset, 1)
	go func() { stable <- offsets(ctx, client, partitions, committed) }()
	seen.describe(ctx, client, partitions)
	maps.Copy(bounds, seen.noted(highs))
	seen.settle(ctx, client, bounds, <-stable)
	return seen
}

// ErrUnsettled says that the end of a transaction is not on all in-sync replicas of a partition
// yet.
var ErrUnsettled = errors.New("the end of its last transaction is not on all in-sync replicas yet")

// noted returns the offsets that were learnt. Partitions without one become unseen.
func (s *Seen) noted(answers map[Place]offset) map[Place]int64 {
	known := make(map[Place]int64, len(answers))
	for place, answer := range answers {
		if answer.err != nil {
			s.Unseen[place] = cmpOr(s.Unseen[place], answer.err)
			continue
		}
		known[place] = answer.offset
	}
	return known
}

// settle compares the last stable offsets with what they must have reached: the bound, or the first
// transaction that is open. Kafka counts a transaction as unstable until its marker is below the
// high watermark.
func (s *Seen) settle(ctx context.Context, client *kgo.Client, bounds map[Place]int64, answers map[Place]offset) {
	stable := s.noted(answers)
	for _, o := range s.Open {
		if bound, ok := bounds[o.Place]; ok && o.Start < bound {
			bounds[o.Place] = o.Start
		}
	}
	behind := make(Partitions)
	for place, bound := range bounds {
		if s.Unseen[place] == nil && stable[place] < bound {
			behind.Add(place)
		}
	}
	// A topic that was deleted and made again, or that has lost its end, is shorter than what was
	// acknowledged.
	for place, high := range s.noted(offsets(ctx, client, behind, uncommitted)) {
		if stable[place] < min(bounds[place], high) {
			s.Unseen[place] = ErrUnsettled
		}
	}
}

func (s *Seen) describe(ctx context.Context, client *kgo.Client, partitions Partitions) {
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
	var failed error
	for _, shard := range client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			failed = shard.Err
			for _, t := range shard.Req.(*kmsg.DescribeProducersRequest).Topics {
				for _, n := range t.Partitions {
					s.Unseen[Place{t.Topic, n}] = shard.Err
					delete(missing, Place{t.Topic, n})
				}
			}
			continue
		}
		for _, t := range shard.Resp.(*kmsg.DescribeProducersResponse).Topics {
			for i := range t.Partitions {
				place := Place{t.Topic, t.Partitions[i].Partition}
				delete(missing, place)
				delete(s.Unseen, place)
				s.add(place, &t.Partitions[i])
			}
		}
	}
	for place := range missing {
		s.Unseen[place] = cmpOr(failed, errNoAnswer)
	}
}

// Isolation levels of a question for offsets: the answer is the last stable offset, or the high
// watermark.
const (
	uncommitted int8 = 0
	committed   int8 = 1
)

type offset struct {
	offset int64
	err    error
}

// offsets asks partitions for their ends. Each partition is in the answer.
func offsets(ctx context.Context, client *kgo.Client, partitions Partitions, isolation int8) map[Place]offset {
	all := make(map[Place]offset, partitions.size())
	if partitions.size() == 0 {
		return all
	}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, isolation
	for topic, numbers := range partitions {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		for _, n := range numbers {
			all[Place{topic, n}] = offset{err: errNoAnswer}
			p := kmsg.NewListOffsetsRequestTopicPartition()
			p.Partition, p.Timestamp = n, -1 // the end
			t.Partitions = append(t.Partitions, p)
		}
		request.Topics = append(request.Topics, t)
	}
	for _, shard := range client.RequestSharded(ctx, request) {
		if shard.Err != nil {
			for _, t := range shard.Req.(*kmsg.ListOffsetsRequest).Topics {
				for _, p := range t.Partitions {
					all[Place{t.Topic, p.Partition}] = offset{err: shard.Err}
				}
			}
			continue
		}
		for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
			for _, p := range t.Partitions {
				all[Place{t.Topic, p.Partition}] = offset{p.Offset, kerr.ErrorForCode(p.ErrorCode)}
			}
		}
	}
	return all
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

// PartitionsOf lists the partitions of topics. Those of a topic that does not exist, or about which
// nothing can be learnt now, are in unseen under partition 0.
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
