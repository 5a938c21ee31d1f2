package kafkatx

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/checkpoint"
)

// Pool is the lane's fixed pool of transactional producers, used in turn: a broker makes the next
// transaction of one id wait until the markers of its last are written, and so another id goes
// meanwhile.
type Pool struct {
	producers []*Producer
	turn      int
	Markers   *Markers
	o         PoolOptions
	closing   sync.Once
}

// PoolOptions of a lane's producers.
type PoolOptions struct {
	// IDs are the transactional ids, in the order in which a takeover fences them.
	IDs []string
	// Checkpoints is the lane's partition of the checkpoint topic.
	Checkpoints Place
	// ClientOptions are common to all clients.
	ClientOptions []kgo.Opt
	// TransactionTimeout is how long brokers let a transaction stay open.
	TransactionTimeout time.Duration
	Partitioner        kgo.Partitioner
	Compression        kgo.CompressionCodec
	// BatchMaxBytes is the largest batch of a topic; it is asked once for each partition of a
	// producer.
	BatchMaxBytes func(topic string) int32
	// MaxBufferedRecords is how many records a transaction has at most.
	MaxBufferedRecords int
	// Now is the time that records are stamped with.
	Now func() time.Time
	// Broker stands in the commands that a person is told to run.
	Broker  string
	Logger  *slog.Logger
	Reports Reports
}

// Reports are told what a lane's transactions wait for.
type Reports struct {
	// Waiting is called while no transaction can begin, and Working once one can.
	Waiting func(reason string)
	Working func()
	// Unclosed says which transactions are not closed yet; empty once all are.
	Unclosed func(reason string)
	// LeftOpen names a topic on which brokers have left a transaction open. The pool is of no use
	// any more.
	LeftOpen func(topic string)
}

// gathering is how long the client waits for more records before it sends the first ones. Each batch
// is flushed as soon as it has been handed over, which ends the wait. Without it the first request
// has whichever records were there when the client looked, and the rest of a batch goes behind it in
// a second one, which the broker begins only once it has answered the first.
const gathering = 5 * time.Millisecond

// NewPool makes the producers. They connect when they are used.
func NewPool(o PoolOptions) (*Pool, error) {
	following, err := newMarkers(o)
	if err != nil {
		return nil, err
	}
	r := &Pool{Markers: following, o: o}
	for number, id := range o.IDs {
		client, err := kgo.NewClient(append(slices.Clone(o.ClientOptions),
			kgo.TransactionalID(id),
			kgo.TransactionTimeout(o.TransactionTimeout),
			kgo.RecordPartitioner(o.Partitioner),
			kgo.ProducerBatchCompression(o.Compression, kgo.NoCompression()),
			kgo.ProducerBatchMaxBytesFn(o.BatchMaxBytes),
			kgo.ProducerLinger(gathering),
			kgo.MaxBufferedRecords(o.MaxBufferedRecords),
			// No RecordDeliveryTimeout: it compares the clock of this host with the timestamps of
			// records, which are the database's. See Txn.Deadline.
			kgo.ProduceRequestTimeout(o.TransactionTimeout),
		)...)
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("create producer %s: %w", id, err)
		}
		r.producers = append(r.producers, &Producer{pool: r, client: client, txnID: id, number: number})
	}
	return r, nil
}

// First is the producer that signs the sentinel.
func (r *Pool) First() *Producer { return r.producers[0] }

// Fence takes every id of the pool: the broker ends the predecessor's open transactions and refuses
// its epochs. The first id is taken before all others, and it signs the sentinel. Of two processes
// that fence at once, the one whose sentinel succeeds has therefore fenced the whole pool after the
// other's first id, or will itself be fenced whole before the other's sentinel: no two can each
// hold a part of the pool and both go on.
func (r *Pool) Fence(ctx context.Context) error {
	if err := r.producers[0].init(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range r.producers[1:] {
		group.Go(func() error { return p.init(ctx) })
	}
	return group.Wait()
}

// Begin begins a transaction on the next producer whose last one is closed.
func (r *Pool) Begin(ctx context.Context) (*Txn, error) {
	inTurn := slices.Concat(r.producers[r.turn:], r.producers[:r.turn])
	p, err := r.Markers.take(ctx, inTurn...)
	if err != nil {
		return nil, fmt.Errorf("begin transaction: %w", err)
	}
	r.turn = (p.number + 1) % len(r.producers)
	return p.start(ctx)
}

// Close ends every client at once; whatever waits in one of them fails. It may be called more than
// once.
func (r *Pool) Close() {
	r.closing.Do(func() {
		var group sync.WaitGroup
		for _, p := range r.producers {
			group.Go(p.client.Close)
		}
		group.Go(r.Markers.close)
		group.Wait()
	})
}

// CheckpointsClosed sees that the fence has left nothing open on the partition of the checkpoints.
func (r *Pool) CheckpointsClosed(ctx context.Context) error {
	own := r.o.Checkpoints
	seen := r.Markers.lookSettled(ctx, Partitions{own.Topic: {own.Partition}})
	if cause, ok := seen.Unseen[own]; ok {
		return cannotAsk(own, cause)
	}
	for _, o := range seen.Open {
		if r.Markers.earlier(o) {
			return fmt.Errorf("%s holds a transaction of another owner open, from offset %d; the lane is taken over once more", own, o.Start)
		}
	}
	return nil
}

// TransactionalIDs are the pool of a lane of the deployment name, in the order in which a takeover
// fences them.
func TransactionalIDs(name, lane string) []string {
	ids := make([]string, checkpoint.PoolSize)
	for i := range ids {
		ids[i] = fmt.Sprintf("relay.%s.%s.%d", name, lane, i)
	}
	return ids
}
