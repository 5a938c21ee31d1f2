package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/checkpoint"
	"github.com/outbox-relay/relay/internal/outboxread"
	"github.com/outbox-relay/relay/internal/topics"
)

// ring is the lane's fixed set of transactional producers, used in turn: a broker makes the next transaction of one id
// wait until the markers of its last are written, and so another id goes meanwhile.
type ring struct {
	producers []*producer
	turn      int
	markers   *markers
	closing   sync.Once
}

// producer is one transactional id with a client of its own.
type producer struct {
	client  *kgo.Client
	txnID   string
	number  int // in the ring
	markers *markers
	clock   *outboxread.Clock
	limit   time.Duration // of a transaction
}

func newRing(cfg *Config, lane *lane, topics *topics.Registry, clock *outboxread.Clock) (*ring, error) {
	partitioner, err := newPartitioner(cfg.Partitioner, checkpoint.TopicName(cfg.Name), topics)
	if err != nil {
		return nil, err
	}
	following, err := newMarkers(cfg, lane)
	if err != nil {
		return nil, err
	}
	r := &ring{markers: following}
	for number, id := range TransactionalIDs(cfg.Name, lane.Name) {
		client, err := kgo.NewClient(append(clientOptions(cfg),
			kgo.TransactionalID(id),
			kgo.TransactionTimeout(cfg.TransactionTimeout),
			kgo.RecordPartitioner(partitioner),
			kgo.ProducerBatchCompression(compressions[cfg.Compression], kgo.NoCompression()),
			kgo.ProducerBatchMaxBytesFn(topics.BatchMaxBytes),
			kgo.ProducerLinger(0),
			kgo.MaxBufferedRecords(cfg.BatchRows+checkpoint.PoolSize),
			// No RecordDeliveryTimeout: it compares the clock of this host with the timestamps of records, which are the
			// database's. See transaction.deadline.
			kgo.ProduceRequestTimeout(cfg.TransactionTimeout),
		)...)
		if err != nil {
			r.close()
			return nil, fmt.Errorf("create producer %s: %w", id, err)
		}
		r.producers = append(r.producers, &producer{
			client: client, txnID: id, number: number, markers: following, clock: clock, limit: cfg.TransactionTimeout,
		})
	}
	return r, nil
}

// fence takes every id of the ring: the broker ends the predecessor's open transactions and refuses its epochs. The first
// id is taken before all others, and it signs the sentinel. Of two processes that fence at once, the one whose sentinel
// succeeds has therefore fenced the whole ring after the other's first id, or will itself be fenced whole before the
// other's sentinel: no two can each hold a part of the ring and both go on.
func (r *ring) fence(ctx context.Context) error {
	if err := r.producers[0].init(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range r.producers[1:] {
		group.Go(func() error { return p.init(ctx) })
	}
	return group.Wait()
}

func (p *producer) init(ctx context.Context) error {
	id, epoch, err := p.identity(ctx)
	if err != nil {
		return fmt.Errorf("fence transactional id %s: %w", p.txnID, err)
	}
	p.markers.fencedAs(p, id, epoch)
	return nil
}

// identity returns the producer id and epoch, which change when the client had to start anew.
func (p *producer) identity(ctx context.Context) (id int64, epoch int16, err error) {
	id, epoch, err = p.client.ProducerID(ctx)
	if err == nil && id < 0 {
		err = errors.New("the brokers do not support transactions")
	}
	return id, epoch, err
}

// begin begins a transaction on the next producer whose last one is closed.
func (r *ring) begin(ctx context.Context) (*transaction, error) {
	inTurn := slices.Concat(r.producers[r.turn:], r.producers[:r.turn])
	p, err := r.markers.take(ctx, inTurn...)
	if err != nil {
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	r.turn = (p.number + 1) % len(r.producers)
	return p.start(ctx)
}

// close ends every client at once; whatever waits in one of them fails. It may be called more than once.
func (r *ring) close() {
	r.closing.Do(func() {
		var group sync.WaitGroup
		for _, p := range r.producers {
			group.Go(p.client.Close)
		}
		group.Go(r.markers.close)
		group.Wait()
	})
}

// transaction is one Kafka transaction of a producer.
type transaction struct {
	producer *producer
	id       int64
	epoch    int16
	begun    time.Time
	promise  func(*kgo.Record, error) // settle, made once and not for each record

	produced int
	acked    atomic.Int64
	places   places // used by the client, which tells outcomes one after the other, and read once all have been told

	mu       sync.Mutex
	failures []produceFailure // the first is the cause of those behind it
}

type produceFailure struct {
	record *kgo.Record
	err    error
}

// begin waits until the last transaction is closed, and begins another.
func (p *producer) begin(ctx context.Context) (*transaction, error) {
	if _, err := p.markers.take(ctx, p); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	return p.start(ctx)
}

func (p *producer) start(ctx context.Context) (*transaction, error) {
	t := &transaction{producer: p, begun: time.Now()}
	t.promise = t.settle
	var err error
	if t.id, t.epoch, err = p.identity(ctx); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	if err := p.client.BeginTransaction(); err != nil {
		return nil, fmt.Errorf("begin transaction of %s: %w", p.txnID, err)
	}
	return t, nil
}

// deadline is the context of records: one that cannot be delivered while the transaction may live is given up with it.
func (t *transaction) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, t.producer.limit, kgo.ErrRecordTimeout)
}

// produce hands a record to the client; its outcome is known after flush. The context is that of deadline.
func (t *transaction) produce(ctx context.Context, r *kgo.Record) {
	t.produced++
	r.Context, r.Timestamp = ctx, t.producer.clock.Now()
	t.producer.client.TryProduce(ctx, r, t.promise)
}

// settle is told the outcome of a record.
func (t *transaction) settle(r *kgo.Record, err error) {
	if err == nil {
		t.places.add(r.Topic, r.Partition, r.Offset)
	} else {
		t.places.add(r.Topic, r.Partition, -1)
		if errors.Is(err, context.DeadlineExceeded) && errors.Is(context.Cause(r.Context), kgo.ErrRecordTimeout) {
			err = kgo.ErrRecordTimeout
		}
		t.mu.Lock()
		t.failures = append(t.failures, produceFailure{r, err})
		t.mu.Unlock()
	}
	t.acked.Add(1)
}

// flush waits until the brokers have acknowledged every record that was produced, without an error.
func (t *transaction) flush(ctx context.Context) error {
	err := t.producer.client.Flush(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.failures) > 0 {
		return fmt.Errorf("produce to topic %s: %w", t.failures[0].record.Topic, t.failures[0].err)
	}
	if err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if acked := t.acked.Load(); acked != int64(t.produced) {
		return fmt.Errorf("flush: %d of %d records were acknowledged", acked, t.produced)
	}
	return nil
}

// Commit writes one record in a transaction of its own.
func (p *producer) Commit(ctx context.Context, r *kgo.Record) error {
	t, err := p.begin(ctx)
	if err != nil {
		return err
	}
	records, given := t.deadline(ctx)
	defer given()
	t.produce(records, r)
	if err := t.flush(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, p.client.Close)
	defer stop()
	return t.end(ctx)
}

// end commits. The context is not the caller's: a cancelled EndTxn has an unknown outcome, so only closing the client may
// interrupt it, after which the lane is taken over anew. Any error means that the outcome is unknown.
func (t *transaction) end(ctx context.Context) error {
	id, epoch, err := t.producer.identity(ctx)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if id != t.id || epoch != t.epoch {
		return fmt.Errorf("commit: the producer changed from %d/%d to %d/%d inside the transaction, which tears it", t.id, t.epoch, id, epoch)
	}
	if err := t.producer.client.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	t.producer.markers.has(t, true)
	return nil
}
