package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// checkpointLog is the lane's partition of the checkpoint topic.
type checkpointLog struct {
	cfg       *Config
	client    *kgo.Client
	admin     *kadm.Client // on that client
	lane      string
	topic     string
	partition int32
}

// checkpointTimeout bounds the reading of the checkpoint. Passing it is an error, never "the end of the log".
const checkpointTimeout = 30 * time.Second

// lookBack is how many offsets before the end are read first: the last checkpoint stands near it.
const lookBack = 512

// peek returns the last committed checkpoint as far as it can be read now, or nil where there is none. It fences nobody.
func (l *checkpointLog) peek(ctx context.Context) (*Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	start, end, err := l.bounds(ctx, readCommitted)
	if err != nil {
		return nil, err
	}
	return l.search(ctx, start, end, "")
}

// last returns the last committed checkpoint, or nil where there is none. It writes a sentinel through p, which has been
// fenced first, and reads until it sees it: whatever the predecessor committed stands before it.
func (l *checkpointLog) last(ctx context.Context, p *producer) (*Checkpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	nonce := uuid.NewString()
	if err := l.write(ctx, p, sentinelKey, []byte(nonce)); err != nil {
		return nil, fmt.Errorf("write sentinel: %w", err)
	}
	start, end, err := l.bounds(ctx, readUncommitted)
	if err != nil {
		return nil, err
	}
	return l.search(ctx, start, end, nonce)
}

// search reads backwards from the end in growing steps until it finds a checkpoint: the topic may not have been compacted.
// Only the last one is decoded, because no other counts. If that cannot be, the error is an unreadableError.
func (l *checkpointLog) search(ctx context.Context, start, end int64, sentinel string) (*Checkpoint, error) {
	for back := int64(lookBack); ; back *= 16 {
		from := max(start, end-back)
		found, err := l.read(ctx, from, end, sentinel)
		if err != nil || found == nil && from == start {
			return nil, err
		}
		if found != nil {
			return l.decode(found)
		}
	}
}

func (l *checkpointLog) decode(record *kgo.Record) (*Checkpoint, error) {
	checkpoint, err := decodeCheckpoint(record.Value)
	if err != nil {
		return nil, unreadable(l.lane, record, err)
	}
	checkpoint.offset, checkpoint.written = record.Offset, record.Timestamp
	return &checkpoint, nil
}

// write puts one record on the lane's partition in a transaction of its own.
func (l *checkpointLog) write(ctx context.Context, p *producer, key string, value []byte) error {
	t, err := p.begin(ctx)
	if err != nil {
		return err
	}
	records, given := t.deadline(ctx)
	defer given()
	t.produce(records, l.record(key, value))
	if err := t.flush(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, p.client.Close)
	defer stop()
	return t.end(ctx)
}

func (l *checkpointLog) record(key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: l.topic, Partition: l.partition, Key: []byte(key), Value: value}
}

// The offsets that bounds asks for, as ListOffsets has them: the first of the log, and its end.
const (
	firstOffset = -2
	endOffset   = -1
)

// The isolation of a reader, as ListOffsets has it: where it would read to.
const (
	readUncommitted int8 = 0 // the end of the log, decided or not
	readCommitted   int8 = 1 // the first record that is not decided
)

// bounds returns the first offset of the partition and its end for a reader of that isolation. It asks about this partition alone: the
// others of the topic are those of other lanes, and may have no leader.
func (l *checkpointLog) bounds(ctx context.Context, isolation int8) (start, end int64, err error) {
	if start, err = l.offset(ctx, isolation, firstOffset); err != nil {
		return 0, 0, fmt.Errorf("list the start of the checkpoint log: %w", err)
	}
	if end, err = l.offset(ctx, isolation, endOffset); err != nil {
		return 0, 0, fmt.Errorf("list the end of the checkpoint log: %w", err)
	}
	return start, end, nil
}

func (l *checkpointLog) offset(ctx context.Context, isolation int8, which int64) (int64, error) {
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Partition, partition.Timestamp = l.partition, which
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = l.topic, []kmsg.ListOffsetsRequestTopicPartition{partition}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, isolation
	request.Topics = []kmsg.ListOffsetsRequestTopic{topic}
	response, err := request.RequestWith(ctx, l.client)
	if err != nil {
		return 0, err
	}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			if t.Topic == l.topic && p.Partition == l.partition {
				return p.Offset, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return 0, fmt.Errorf("the cluster did not answer for %s/%d", l.topic, l.partition)
}

// read consumes [from, end) as a read_committed consumer and returns the last record with the key of one. It must see the sentinel,
// where one is given, and pass the end: an open transaction before it would hold the consumer back. Without a sentinel it
// returns what it has found once nothing more comes for a moment: the end may lie behind records of an aborted transaction,
// which are not shown.
func (l *checkpointLog) read(ctx context.Context, from, end int64, sentinel string) (*kgo.Record, error) {
	client, err := kgo.NewClient(append(clientOptions(l.cfg),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: {l.partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
	)...)
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	defer client.Close()
	var found *kgo.Record
	seen, position := sentinel == "", from
	for !seen || position < end {
		fetches := pollFetches(ctx, client, sentinel == "")
		if sentinel == "" && ctx.Err() == nil && errors.Is(fetches.Err(), context.DeadlineExceeded) {
			return found, nil
		}
		if err := fetches.Err(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, fmt.Errorf("read the checkpoint: %s/%d was not readable up to offset %d within %v (position %d, sentinel seen: %t); "+
					"a transaction may be open on it", l.topic, l.partition, end, checkpointTimeout, position, seen)
			}
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
		for record := range fetches.RecordsAll() {
			position = record.Offset + 1
			switch {
			case record.Attrs.IsControl():
			case string(record.Key) == sentinelKey:
				seen = seen || string(record.Value) == sentinel
			case string(record.Key) == checkpointKey:
				found = record
			}
		}
	}
	return found, nil
}

// peekPatience is how long a peek waits for more records.
const peekPatience = time.Second

// pollFetches is one poll, for peekPatience at most where it is part of a peek.
func pollFetches(ctx context.Context, client *kgo.Client, peek bool) kgo.Fetches {
	if !peek {
		return client.PollFetches(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, peekPatience)
	defer cancel()
	return client.PollFetches(ctx)
}
