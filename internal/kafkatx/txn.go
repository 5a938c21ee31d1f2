package kafkatx

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Txn is one Kafka transaction of a producer.
type Txn struct {
	Producer *Producer
	id       int64
	epoch    int16
	Begun    time.Time
	promise  func(*kgo.Record, error) // settle, made once and not for each record

	produced int
	acked    atomic.Int64
	places   places // used by the client, which tells outcomes one after the other, and read once all have been told

	mu       sync.Mutex
	failures []Failure // the first is the cause of those behind it
}

// Failure is a record that was not acknowledged. The first of a transaction is the cause of those
// behind it.
type Failure struct {
	Record *kgo.Record
	Err    error
}

// Deadline is the context of records: one that cannot be delivered while the transaction may live
// is given up with it.
func (t *Txn) Deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, t.Producer.pool.o.TransactionTimeout, kgo.ErrRecordTimeout)
}

// Produce hands a record to the client; its outcome is known after flush. The context is that of
// deadline.
func (t *Txn) Produce(ctx context.Context, r *kgo.Record) {
	t.produced++
	r.Context, r.Timestamp = ctx, t.Producer.pool.o.Now()
	t.Producer.client.TryProduce(ctx, r, t.promise)
}

// settle is told the outcome of a record.
func (t *Txn) settle(r *kgo.Record, err error) {
	if err == nil {
		t.places.add(r.Topic, r.Partition, r.Offset)
	} else {
		t.places.add(r.Topic, r.Partition, -1)
		if errors.Is(err, context.DeadlineExceeded) && errors.Is(context.Cause(r.Context), kgo.ErrRecordTimeout) {
			err = kgo.ErrRecordTimeout
		}
		t.mu.Lock()
		t.failures = append(t.failures, Failure{r, err})
		t.mu.Unlock()
	}
	t.acked.Add(1)
}

// Flush waits until the brokers have acknowledged every record that was produced, without an error.
func (t *Txn) Flush(ctx context.Context) error {
	err := t.Producer.client.Flush(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.failures) > 0 {
		return fmt.Errorf("produce to topic %s: %w", t.failures[0].Record.Topic, t.failures[0].Err)
	}
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if acked := t.acked.Load(); acked != int64(t.produced) {
		return fmt.Errorf("flush: %d of %d records were acknowledged", acked, t.produced)
	}
	return nil
}

// Outcome returns what has failed so far, and whether all records have been acknowledged or have
// failed.
func (t *Txn) Outcome() (failures []Failure, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.failures), t.acked.Load() == int64(t.produced)
}

// Describe is the transaction as a checkpoint names it, with the topics that it writes to.
func (t *Txn) Describe(topics map[string]struct{}) checkpoint.Transaction {
	return checkpoint.NewTransaction(t.Producer.number, t.id, t.epoch, topics)
}

// Abort ends the transaction without a trace. Whatever it held has been decided by then: nothing is
// buffered any more. An error means that the producer cannot be used again. If it takes too long,
// the whole pool is closed.
func (t *Txn) Abort() error {
	pool := t.Producer.pool
	limit := time.AfterFunc(pool.o.TransactionTimeout+time.Second, pool.Close)
	defer limit.Stop()
	if err := t.Producer.client.EndTransaction(context.Background(), kgo.TryAbort); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	pool.Markers.has(t, false)
	return nil
}

// Commit commits. The context is not the caller's: a cancelled EndTxn has an unknown outcome, so
// only closing the client may interrupt it, after which the lane is taken over again. Any error
// means that the outcome is unknown.
func (t *Txn) Commit(ctx context.Context) error {
	id, epoch, err := t.Producer.identity(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if id != t.id || epoch != t.epoch {
		return fmt.Errorf("commit: the producer changed from %d/%d to %d/%d inside the transaction, which tears it", t.id, t.epoch, id, epoch)
	}
	if err := t.Producer.client.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	t.Producer.pool.Markers.has(t, true)
	return nil
}
