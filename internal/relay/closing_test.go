package relay

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/pipeline"
)

// leftOut has a broker say of one transaction that its marker is missing on a partition, until it
// is written: until the partition is added to a transaction of that producer, which ends.
type leftOut struct {
	mu         sync.Mutex
	producerID int64
	epoch      int16
	partition  int32
	added      bool
	ended      []bool          // commit or abort
	taken      map[string]bool // transactional ids that were taken before
}

func (l *leftOut) on(r *rig, topic string) {
	r.cluster.ControlKey(int16(kmsg.DescribeProducers), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		response := request.ResponseKind().(*kmsg.DescribeProducersResponse)
		for _, asked := range request.(*kmsg.DescribeProducersRequest).Topics {
			answer := kmsg.NewDescribeProducersResponseTopic()
			answer.Topic = asked.Topic
			for _, n := range asked.Partitions {
				partition := kmsg.NewDescribeProducersResponseTopicPartition()
				partition.Partition = n
				if l.producerID > 0 && len(l.ended) == 0 && asked.Topic == topic && n == l.partition {
					active := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					active.ProducerID, active.ProducerEpoch, active.CurrentTxnStartOffset = l.producerID, int32(l.epoch), 0
					partition.ActiveProducers = append(partition.ActiveProducers, active)
				}
				answer.Partitions = append(answer.Partitions, partition)
			}
			response.Topics = append(response.Topics, answer)
		}
		return response, nil, true
	})
	r.cluster.ControlKey(int16(kmsg.ListOffsets), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		response := l.unstable(request.(*kmsg.ListOffsetsRequest), topic)
		return response, nil, response != nil
	})
	r.cluster.ControlKey(int16(kmsg.InitProducerID), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		if id := request.(*kmsg.InitProducerIDRequest).TransactionalID; l.producerID > 0 && len(l.ended) == 0 && id != nil {
			if l.taken == nil {
				l.taken = make(map[string]bool)
			}
			l.taken[*id] = true
		}
		return nil, nil, false
	})
	r.cluster.ControlKey(int16(kmsg.AddPartitionsToTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		add := request.(*kmsg.AddPartitionsToTxnRequest)
		for _, topic := range add.Topics {
			l.added = l.added || add.ProducerID == l.producerID && slices.Contains(topic.Partitions, l.partition)
		}
		return nil, nil, false
	})
	r.cluster.ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		l.mu.Lock()
		defer l.mu.Unlock()
		if end := request.(*kmsg.EndTxnRequest); l.added && end.ProducerID == l.producerID {
			l.ended, l.added = append(l.ended, end.Commit), false
		}
		return nil, nil, false
	})
}

// unstable answers a question for last stable offsets while the transaction is open: that of its
// partition stays where it began. The caller holds the lock.
func (l *leftOut) unstable(request *kmsg.ListOffsetsRequest, topic string) kmsg.Response {
	if l.producerID == 0 || len(l.ended) > 0 || request.IsolationLevel == 0 {
		return nil
	}
	asksHere := false
	response := request.ResponseKind().(*kmsg.ListOffsetsResponse)
	for _, asked := range request.Topics {
		answer := kmsg.NewListOffsetsResponseTopic()
		answer.Topic = asked.Topic
		for _, p := range asked.Partitions {
			partition := kmsg.NewListOffsetsResponseTopicPartition()
			partition.Partition, partition.Offset = p.Partition, 1<<40
			if asked.Topic == topic && p.Partition == l.partition && p.Timestamp == -1 {
				partition.Offset, asksHere = 0, true
			}
			answer.Partitions = append(answer.Partitions, partition)
		}
		response.Topics = append(response.Topics, answer)
	}
	if !asksHere {
		return nil
	}
	return response
}

// of chooses the transaction.
func (l *leftOut) of(batch checkpoint.TransactionRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.producerID, l.epoch = batch.ProducerID, batch.Epoch
}

func (l *leftOut) ends() []bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ended)
}

// expect checks how the marker was written, once.
func (l *leftOut) expect(t *testing.T, commit bool) {
	t.Helper()
	if got := l.ends(); !slices.Equal(got, []bool{commit}) {
		t.Errorf("the transaction was ended %v times (true: by a commit), want %t once", got, commit)
	}
}

// expectBeforeTheFence checks that the marker was written before any other id was taken.
func (l *leftOut) expectBeforeTheFence(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.taken) != 1 {
		t.Errorf("%d ids were taken while the transaction was open, want that one", len(l.taken))
	}
}

// lastBatch reads the last transaction of the first batch from the checkpoint.
func (r *rig) lastBatch() checkpoint.TransactionRecord {
	r.t.Helper()
	var found checkpoint.TransactionRecord
	for _, record := range r.records(checkpoint.TopicName("test"), true) {
		var c checkpoint.Record
		if string(record.Key) == checkpoint.Key && json.Unmarshal(record.Value, &c) == nil && c.Seq == 1 {
			found = c.Transactions.Last[0]
		}
	}
	if found.ProducerID == 0 {
		r.t.Fatal("no checkpoint of batch 1 names its transaction")
	}
	return found
}

// The brokers have left the marker of a committed batch out, and its relay is gone.
func TestATakeoverCommitsAgainWhatIsLeftOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(30, "v")
	s := r.start(r.config())
	s.awaitRows(t, 30)
	s.stop()
	batch := r.lastBatch()
	missing := &leftOut{partition: 1, producerID: batch.ProducerID, epoch: batch.Epoch}
	missing.on(r, orders)
	again := r.start(r.config())
	insert(t, r.conn, "end", "end")
	again.awaitRows(t, 1)
	again.stop()
	r.expect(orders, merge(want, theEnd))
	missing.expect(t, true)
	missing.expectBeforeTheFence(t)
}

// The brokers have left the marker of a committed batch out, and its relay lives and has nothing
// more to publish.
func TestAnIdleLaneFindsWhatIsLeftOpen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	missing := &leftOut{partition: 1}
	missing.on(r, orders)
	cfg := r.config()
	cfg.Step = func(step pipeline.Step) {
		if step == pipeline.BeforeEnd {
			missing.of(r.lastBatch())
		}
	}
	want := r.insertOrders(30, "v")
	s := r.start(cfg)
	s.await(t, "the lane has been taken over once more", func(s *recorder) bool {
		n := len(s.takeovers)
		return n > 1 && s.takeovers[n-1] == nil && len(missing.ends()) > 0 && s.state().State == Running
	})
	s.stop()
	r.expect(orders, want)
	missing.expect(t, true)
}

// What the last checkpoint does not know was not committed.
func TestAnAbortWithoutItsMarkerIsAbortedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := r.insertOrders(30, "v")
	s := r.start(r.config())
	s.awaitRows(t, 30)
	s.stop()
	batch := r.lastBatch()
	missing := &leftOut{partition: 1, producerID: batch.ProducerID, epoch: batch.Epoch + 1}
	missing.on(r, orders)
	again := r.start(r.config())
	insert(t, r.conn, "end", "end")
	again.awaitRows(t, 1)
	again.stop()
	r.expect(orders, merge(want, theEnd))
	missing.expect(t, false)
}
