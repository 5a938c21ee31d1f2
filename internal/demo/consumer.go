package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/harness/ledger"
	"github.com/outbox-relay/relay/internal/harness/workload"
)

// topic is where the relay's default route sends events of the type account.
const topic = "outbox.event." + workload.AggregateType

// consumer reads the topic as a service would that reads committed records only.
type consumer struct {
	client *kgo.Client
	ledger *ledger.Ledger[uuid.UUID]
	first  func(*kgo.Record, workload.Entry) // receives each message that is not sent again on purpose

	mu        sync.Mutex
	positions map[int32]int64 // the next offset of each partition
	ends      map[int32]int64 // the offset after the last message of each partition, without what comes after it
}

func newConsumer(brokers []string, l *ledger.Ledger[uuid.UUID], first func(*kgo.Record, workload.Entry)) (*consumer, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("demo-consumer"),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// The markers of transactions show how far it has read where what comes last was aborted.
		kgo.KeepControlRecords(),
		// The topic does not exist before the relay has made it.
		kgo.MetadataMinAge(100*time.Millisecond),
		kgo.MetadataMaxAge(time.Second),
		kgo.FetchMaxWait(250*time.Millisecond),
	)
	if err != nil {
		return nil, fmt.Errorf("create consumer: %w", err)
	}
	return &consumer{client: client, ledger: l, first: first, positions: make(map[int32]int64), ends: make(map[int32]int64)}, nil
}

// run reads until ctx ends.
func (c *consumer) run(ctx context.Context) error {
	for {
		fetches := c.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		c.enter(fetches)
	}
}

// enter puts what was read into the ledger, each partition in its order.
func (c *consumer) enter(fetches kgo.Fetches) {
	var entries []workload.Entry
	positions, ends := make(map[int32]int64), make(map[int32]int64)
	fetches.EachRecord(func(r *kgo.Record) {
		positions[r.Partition] = r.Offset + 1
		if r.Attrs.IsControl() {
			return
		}
		ends[r.Partition] = r.Offset + 1
		if isEcho(r) {
			return
		}
		e, err := decode(r)
		if err != nil {
			c.ledger.ArriveUnreadable(fmt.Errorf("partition %d, offset %d: %w", r.Partition, r.Offset, err))
			return
		}
		entries = append(entries, e)
		c.first(r, e)
	})
	// Under one lock: a reader that sees the new positions finds the records in the ledger.
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.positions, positions)
	maps.Copy(c.ends, ends)
	c.ledger.Arrive(entries)
}

// decode reads from a record what its writer put in.
func decode(r *kgo.Record) (e workload.Entry, err error) {
	found := 0
	for _, h := range r.Headers {
		if h.Key != "msg_id" {
			continue
		}
		id, err := uuid.ParseBytes(h.Value)
		if err != nil {
			return e, fmt.Errorf("header msg_id %q: %w", h.Value, err)
		}
		e.ID = id
		found++
	}
	if found != 1 {
		return e, fmt.Errorf("%d headers msg_id, want 1", found)
	}
	var b body
	if err := json.Unmarshal(r.Value, &b); err != nil {
		return e, fmt.Errorf("message %s: value: %w", e.ID, err)
	}
	if b.Account != string(r.Key) {
		return e, fmt.Errorf("message %s: key %q, but the value is of %q", e.ID, r.Key, b.Account)
	}
	e.Event = ledger.Event{Aggregate: b.Account, Version: b.Version}
	return e, nil
}

// readToEnd returns once everything that is in the topic now has been read.
func (c *consumer) readToEnd(ctx context.Context) error {
	ends, err := c.marks(ctx)
	if err != nil {
		return err
	}
	for {
		_, changed := c.ledger.Now()
		if c.passed(ends) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *consumer) passed(ends map[int32]int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for partition, end := range ends {
		if c.positions[partition] < end {
			return false
		}
	}
	return true
}

// errOpenTransaction says that a relay left a transaction open behind which a consumer cannot read.
var errOpenTransaction = errors.New("a transaction is still open although no relay runs")

// lastMessages are the offsets after the last message of each partition that was read.
func (c *consumer) lastMessages() map[int32]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.ends)
}

// marks are the high watermarks of the partitions. Nothing may be open before them when the last
// relay has stopped.
func (c *consumer) marks(ctx context.Context) (map[int32]int64, error) {
	admin := kadm.NewClient(c.client)
	high, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = high.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the end of %s: %w", topic, err)
	}
	stable, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = stable.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the last stable offsets of %s: %w", topic, err)
	}
	ends := make(map[int32]int64)
	for partition, offset := range high[topic] {
		ends[partition] = offset.Offset
		if stable[topic][partition].Offset < offset.Offset {
			return nil, fmt.Errorf("read %s partition %d to its end: %w", topic, partition, errOpenTransaction)
		}
	}
	return ends, nil
}

// close ends the client.
func (c *consumer) close() { c.client.Close() }

// countUncommitted counts the records in the topic that a consumer would read which does not read
// committed only. Everything up to the positions of reader is read once more.
func countUncommitted(ctx context.Context, brokers []string, reader *consumer) (int, error) {
	reader.mu.Lock()
	ends := maps.Clone(reader.positions)
	reader.mu.Unlock()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("demo-witness"),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadUncommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(250*time.Millisecond),
	)
	if err != nil {
		return 0, fmt.Errorf("create witness: %w", err)
	}
	defer client.Close()
	count := 0
	for len(ends) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, fmt.Errorf("read %s again: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() && !isEcho(r) {
				count++
			}
			if r.Offset+1 >= ends[r.Partition] {
				delete(ends, r.Partition)
			}
		})
	}
	return count, nil
}
