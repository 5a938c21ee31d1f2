package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Log is the lane's partition of the checkpoint topic.
type Log struct {
	client *kgo.Client
	LogOptions
}

// LogOptions say where a lane's checkpoints are.
type LogOptions struct {
	// Lane is named in diagnoses.
	Lane      string
	Topic     string
	Partition int32
	// ClientOptions are those of a client that reads.
	ClientOptions []kgo.Opt
}

// NewLog returns the log; it asks its questions with client.
func NewLog(client *kgo.Client, o LogOptions) *Log { return &Log{client, o} }

// Producer commits one record in its own transaction.
type Producer interface {
	Commit(ctx context.Context, r *kgo.Record) error
}

// checkpointTimeout bounds the reading of the checkpoint. Passing it is an error, never "the end of
// the log".
const checkpointTimeout = 30 * time.Second

// lookBack is how many offsets before the end are read first: the last checkpoint stands near it.
const lookBack = 512

// ReadUnfenced returns the last committed checkpoint as far as it can be read now, or nil where
// there is none. It fences no process.
func (l *Log) ReadUnfenced(ctx context.Context) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	start, end, err := l.bounds(ctx, readCommitted)
	if err != nil {
		return nil, err
	}
	return l.search(ctx, start, end, "")
}

// ReadFenced returns the last committed checkpoint, or nil if there is none. It writes a sentinel
// through p, which has been fenced first, and reads until it sees it: whatever the predecessor
// committed stands before it.
func (l *Log) ReadFenced(ctx context.Context, p Producer) (*Record, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	nonce := uuid.NewString()
	if err := p.Commit(ctx, l.record(sentinelKey, []byte(nonce))); err != nil {
		return nil, fmt.Errorf("write sentinel: %w", err)
	}
	start, end, err := l.bounds(ctx, readUncommitted)
	if err != nil {
		return nil, err
	}
	return l.search(ctx, start, end, nonce)
}

// search reads backwards from the end in growing steps until it finds a checkpoint: the topic may
// not have been compacted. Only the last one is decoded, because no other counts. If that cannot
// be, the error is an unreadableError.
func (l *Log) search(ctx context.Context, start, end int64, sentinel string) (*Record, error) {
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

func (l *Log) decode(record *kgo.Record) (*Record, error) {
	checkpoint, err := Decode(record.Value)
	if err != nil {
		return nil, unreadable(l.Lane, record, err)
	}
	checkpoint.Offset, checkpoint.Written = record.Offset, record.Timestamp
	return &checkpoint, nil
}

// Write puts a checkpoint on the lane's partition, in its own transaction.
func (l *Log) Write(ctx context.Context, p Producer, c Record) error {
	value, err := c.Encode()
	if err != nil {
		return err
	}
	return p.Commit(ctx, l.Message(value))
}

// Message is the record of an encoded checkpoint.
func (l *Log) Message(value []byte) *kgo.Record { return l.record(Key, value) }

func (l *Log) record(key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: l.Topic, Partition: l.Partition, Key: []byte(key), Value: value}
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

// Bounds returns the first offset of the partition and its end, decided or not.
func (l *Log) Bounds(ctx context.Context) (start, end int64, err error) {
	return l.bounds(ctx, readUncommitted)
}

// bounds returns the first offset of the partition and its end for a reader of that isolation. It
// asks about this partition alone: the others of the topic are those of other lanes, and may have
// no leader.
func (l *Log) bounds(ctx context.Context, isolation int8) (start, end int64, err error) {
	if start, err = l.offset(ctx, isolation, firstOffset); err != nil {
		return 0, 0, fmt.Errorf("list the start of the checkpoint log: %w", err)
	}
	if end, err = l.offset(ctx, isolation, endOffset); err != nil {
		return 0, 0, fmt.Errorf("list the end of the checkpoint log: %w", err)
	}
	return start, end, nil
}

func (l *Log) offset(ctx context.Context, isolation int8, which int64) (int64, error) {
	partition := kmsg.NewListOffsetsRequestTopicPartition()
	partition.Partition, partition.Timestamp = l.Partition, which
	topic := kmsg.NewListOffsetsRequestTopic()
	topic.Topic, topic.Partitions = l.Topic, []kmsg.ListOffsetsRequestTopicPartition{partition}
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID, request.IsolationLevel = -1, isolation
	request.Topics = []kmsg.ListOffsetsRequestTopic{topic}
	response, err := request.RequestWith(ctx, l.client)
	if err != nil {
		return 0, err
	}
	for _, t := range response.Topics {
		for _, p := range t.Partitions {
			if t.Topic == l.Topic && p.Partition == l.Partition {
				return p.Offset, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return 0, fmt.Errorf("the cluster did not answer for %s/%d", l.Topic, l.Partition)
}

// read consumes [from, end) as a read_committed consumer and returns the last record with the key
// of one. It must see the sentinel, if one is given, and pass the end: an open transaction
// before it would hold the consumer back. Without a sentinel it returns what it has found once
// brokers answer that nothing more is there: the end may lie behind records that are not shown.
func (l *Log) read(ctx context.Context, from, end int64, sentinel string) (*kgo.Record, error) {
	answers := &fetchAnswers{}
	client, err := kgo.NewClient(append(slices.Clone(l.ClientOptions),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: {l.Partition: kgo.NewOffset().At(from)}}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.WithHooks(answers),
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
			if answers.since.Load() < quietAnswers { // a broker that is slow has not said that nothing is there
				continue
			}
			return found, nil
		}
		if err := fetches.Err(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				return nil, fmt.Errorf("read the checkpoint: %s/%d was not readable up to offset %d within %v "+
					"(position %d, sentinel seen: %t); a transaction may be open on it",
					l.Topic, l.Partition, end, checkpointTimeout, position, seen)
			}
			return nil, fmt.Errorf("read the checkpoint: %w", err)
		}
		answers.since.Store(0)
		for record := range fetches.RecordsAll() {
			position = record.Offset + 1
			switch {
			case record.Attrs.IsControl():
			case string(record.Key) == sentinelKey:
				seen = seen || string(record.Value) == sentinel
			case string(record.Key) == Key:
				found = record
			}
		}
	}
	return found, nil
}

// An unfenced read is at its end if nothing has come for quietTime, and if brokers have answered
// quietAnswers times meanwhile: a slow broker must not be taken for an empty log, because then
// another deployment's lane would be fenced.
const (
	quietTime    = time.Second
	quietAnswers = 3
)

// fetchAnswers counts the answers to fetches.
type fetchAnswers struct{ since atomic.Int32 }

// OnBrokerRead implements kgo.HookBrokerRead.
func (a *fetchAnswers) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if key == int16(kmsg.Fetch) && err == nil {
		a.since.Add(1)
	}
}

// pollFetches is one poll, for quietTime at most if it is part of an unfenced read.
func pollFetches(ctx context.Context, client *kgo.Client, unfenced bool) kgo.Fetches {
	if !unfenced {
		return client.PollFetches(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	return client.PollFetches(ctx)
}
