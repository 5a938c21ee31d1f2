package kafkatx

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Take takes a transactional id, as a producer does that starts: what is open is aborted by its
// coordinator. It returns false if the coordinator is still busy with that, or with the markers of
// a transaction before.
func Take(ctx context.Context, client *kgo.Client, id string, timeoutMillis int32) (producerID int64, epoch int16, taken bool, err error) {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionalID = &id
	request.TransactionTimeoutMillis = timeoutMillis
	request.ProducerID, request.ProducerEpoch = -1, -1
	response, err := request.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(response.ErrorCode)
	}
	switch {
	case err == kerr.ConcurrentTransactions: //nolint:errorlint // a code of Kafka, which nothing wraps
		return 0, 0, false, nil
	case err != nil:
		return 0, 0, false, fmt.Errorf("take transactional id %s: %w", id, err)
	}
	return response.ProducerID, response.ProducerEpoch, true, nil
}

// Finish decides what partitions hold open of a producer id, by a transaction of the transactional
// id that has that producer id: it adds the partitions without writing to them, and ends. state is
// what the coordinator said before the partitions were asked. Finish reports false if the
// coordinator is busy, or if the id was used or got another producer id since then: nothing is
// decided then, because what is open may be another transaction by now.
func Finish(
	ctx context.Context, client *kgo.Client, id string, timeoutMillis int32, state Coordinated, open []Open, commit bool,
) (bool, error) {
	producerID, epoch, taken, err := Take(ctx, client, id, timeoutMillis)
	if err != nil || !taken || producerID != state.ProducerID || epoch != state.Epoch+1 {
		return false, err
	}
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = id, producerID, epoch
	for topic, numbers := range placesOf(open) {
		t := kmsg.NewAddPartitionsToTxnRequestTopic()
		t.Topic, t.Partitions = topic, numbers
		add.Topics = append(add.Topics, t)
	}
	added, err := add.RequestWith(ctx, client)
	if err != nil {
		return false, fmt.Errorf("add partitions to a transaction of %s: %w", id, err)
	}
	for _, t := range added.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return false, fmt.Errorf("add %s/%d to a transaction of %s: %w", t.Topic, p.Partition, id, err)
			}
		}
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = id, producerID, epoch, commit
	ended, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("end a transaction of %s: %w", id, err)
	}
	return true, nil
}

// WriteMarkers decides what partitions hold open of a producer id that no transactional id has any
// more. It needs the right to alter the cluster.
func WriteMarkers(ctx context.Context, client *kgo.Client, open []Open, commit bool) error {
	for _, o := range open {
		topics := make(kadm.TopicsSet)
		topics.Add(o.Topic, o.Partition)
		responses, err := kadm.NewClient(client).WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: o.ProducerID, ProducerEpoch: o.Epoch, Commit: commit, CoordinatorEpoch: max(o.coordinatorEpoch, 0), Topics: topics,
		})
		responses.EachPartition(func(p kadm.TxnMarkersPartitionResponse) {
			if err == nil {
				err = p.Err
			}
		})
		if err != nil {
			return fmt.Errorf("write the marker of a transaction of producer %d on %s: %w", o.ProducerID, o.Place, err)
		}
	}
	return nil
}

func placesOf(open []Open) Partitions {
	places := make(Partitions)
	for _, o := range open {
		if !slices.Contains(places[o.Topic], o.Partition) {
			places.Add(o.Place)
		}
	}
	return places
}
