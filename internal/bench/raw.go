package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/partitioning"
)

// ringIDs is how many transactional ids the relay has for a lane.
const ringIDs = 6

// rawProducer is a transactional producer without Postgres: what the relay would be, were its rows
// free.
type rawProducer struct {
	clients []*kgo.Client
	batch   int
}

// newRawProducer makes clients for so many transactional ids, each initialised.
func newRawProducer(ctx context.Context, cfg Config, ids int, topic string) (*rawProducer, error) {
	partitioner, err := partitioning.New(cfg.Partitioner)
	if err != nil {
		return nil, fmt.Errorf("partitioner: %w", err)
	}
	p := &rawProducer{batch: cfg.Batch}
	for range ids {
		client, err := kgo.NewClient(append([]kgo.Opt{
			kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID("relay-bench-" + uuid.NewString()),
			kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(5 * time.Millisecond), kgo.MaxBufferedRecords(cfg.Batch + 1),
			kgo.MetadataMinAge(100 * time.Millisecond),
			kgo.ProducerBatchCompression(compressions[cfg.Compression], kgo.NoCompression()),
			kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(string) func(*kgo.Record, int) int {
				return func(r *kgo.Record, n int) int { return partitioner.Partition(r.Key, n) }
			})),
		}, cfg.KafkaOptions...)...)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("create a raw producer: %w", err)
		}
		p.clients = append(p.clients, client)
		if _, _, err := client.ProducerID(ctx); err != nil {
			p.close()
			return nil, fmt.Errorf("initialise a raw producer: %w", err)
		}
	}
	return p, nil
}

func (p *rawProducer) close() {
	for _, client := range p.clients {
		client.Close()
	}
}

// produce publishes rows records, from the beginning of the given ones again where these are fewer,
// and returns how many a second. With several ids a batch is committed while the next one is
// produced, and after the one before it, as the relay does; with one, a batch follows the other.
func (p *rawProducer) produce(ctx context.Context, from []kgo.Record, rows int) (float64, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	commits := make(chan *kgo.Client, 1)
	group.Go(func() error {
		for client := range commits {
			if err := commit(ctx, client); err != nil {
				return err
			}
		}
		return nil
	})
	group.Go(func() error {
		defer close(commits)
		for done, turn := 0, 0; done < rows; turn++ {
			client, n := p.clients[turn%len(p.clients)], min(p.batch, rows-done)
			if err := p.batchOf(ctx, client, from, done, n); err != nil {
				return err
			}
			done += n
			if len(p.clients) == 1 {
				if err := commit(ctx, client); err != nil {
					return err
				}
				continue
			}
			select {
			case commits <- client:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("raw producer: %w", err)
	}
	return float64(rows) / time.Since(began).Seconds(), nil
}

// batchOf begins a transaction, produces n records and waits for their acknowledgements.
func (p *rawProducer) batchOf(ctx context.Context, client *kgo.Client, from []kgo.Record, first, n int) error {
	if err := client.BeginTransaction(); err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	for i := first; i < first+n; i++ {
		record := &from[i%len(from)]
		// The client fills in what is missing; what it filled in last time belongs to another producer.
		record.Topic, record.Timestamp, record.Context = "", time.Time{}, nil
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	err := client.Flush(ctx)
	if cause := failed.Load(); cause != nil {
		err = errors.Join(*cause, err)
	}
	return err
}

func commit(ctx context.Context, client *kgo.Client) error {
	return client.EndTransaction(ctx, kgo.TryCommit)
}
