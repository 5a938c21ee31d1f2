package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// checkpointLog is the lane's partition of the checkpoint topic.
type checkpointLog struct {
	cfg       *Config
	admin     *kadm.Client
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
	start, end, err := l.bounds(ctx, l.admin.ListCommittedOffsets)
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
	start, end, err := l.bounds(ctx, l.admin.ListEndOffsets)
	if err != nil {
		return nil, err
	}
	return l.search(ctx, start, end, nonce)
}

// search reads backwards from the end in growing steps until it finds a checkpoint: the topic may not have been compacted.
func (l *checkpointLog) search(ctx context.Context, start, end int64, sentinel string) (*Checkpoint, error) {
	for back := int64(lookBack); ; back *= 16 {
		from := max(start, end-back)
		found, err := l.read(ctx, from, end, sentinel)
		if err != nil || found != nil || from == start {
			return found, err
		}
	}
}

// write puts one record on the lane's partition in a transaction of its own.
func (l *checkpointLog) write(ctx context.Context, p *producer, key string, value []byte) error {
	t, err := p.begin(ctx)
	if err != nil {
		return err
	}
	t.produce(ctx, l.record(key, value))
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

// bounds returns the first offset of the partition and its end: the one after its last record, committed or not, or the
// one after the last that is decided.
func (l *checkpointLog) bounds(
	ctx context.Context, listEnds func(context.Context, ...string) (kadm.ListedOffsets, error),
) (start, end int64, err error) {
	starts, err := l.admin.ListStartOffsets(ctx, l.topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("list the start of the checkpoint log: %w", err)
	}
	ends, err := listEnds(ctx, l.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, 0, fmt.Errorf("list the end of the checkpoint log: %w", err)
	}
	first, ok := starts.Lookup(l.topic, l.partition)
	last, ok2 := ends.Lookup(l.topic, l.partition)
	if !ok || !ok2 {
		return 0, 0, fmt.Errorf("checkpoint topic %s has no partition %d", l.topic, l.partition)
	}
	return first.Offset, last.Offset, nil
}

// read consumes [from, end) as a read_committed consumer and returns the last checkpoint in it. It must see the sentinel,
// where one is given, and pass the end: an open transaction before it would hold the consumer back. Without a sentinel it
// returns what it has found once nothing more comes for a moment: the end may lie behind records of an aborted transaction,
// which are not shown.
func (l *checkpointLog) read(ctx context.Context, from, end int64, sentinel string) (*Checkpoint, error) {
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
	var found *Checkpoint
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
				checkpoint, err := decodeCheckpoint(record.Value)
				if err != nil {
					return nil, halt("upgrade this relay", "the checkpoint at %s/%d offset %d cannot be read: %v",
						l.topic, l.partition, record.Offset, err)
				}
				checkpoint.offset, checkpoint.written = record.Offset, record.Timestamp
				found = &checkpoint
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
