package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/outbox-relay/relay/internal/bench/load"
)

const (
	// latencyWarmUp is how long inserts go on before they count.
	latencyWarmUp = 3 * time.Second
	// arrivalLimit is how long events may take to arrive after the last insert.
	arrivalLimit = 30 * time.Second
)

// steady inserts events, one a transaction, at the rate, while a relay runs, and measures from the
// return of the commit to the arrival at a read_committed consumer.
func (b *bench) steady(ctx context.Context, p *place, rate int) (_ Rate, _ *load.Events, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return Rate{}, nil, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	n := int(float64(rate) * (b.cfg.Duration + latencyWarmUp).Seconds())
	skip := warmedUp(rate)
	consumer, err := load.Consumer(b.cfg.Brokers, topic, b.cfg.KafkaOptions...)
	if err != nil {
		return Rate{}, nil, err
	}
	defer consumer.Close()
	b.progress("latency at %s inserts/s: %.0f s", grouped(rate), (b.cfg.Duration + latencyWarmUp).Seconds())
	events := load.NewEvents(n)
	err = load.Steady{URL: p.url, Topic: topic, Rate: rate, Size: b.cfg.Size}.Measure(ctx, events, consumer, arrivalLimit)
	if err == nil {
		err = events.Complete()
	}
	if err != nil {
		return Rate{}, nil, fmt.Errorf("at %s inserts/s: %w", grouped(rate), err)
	}
	first, last := slices.MinFunc(events.Began, time.Time.Compare), slices.MaxFunc(events.Committed, time.Time.Compare)
	return Rate{
		Rate: rate, Achieved: round(float64(n)/last.Sub(first).Seconds(), 0), Events: n - skip,
		Latency: load.LatencyOf(events.Since(events.Committed, skip)),
	}, events, nil
}

// warmedUp is how many events at a rate do not count.
func warmedUp(rate int) int { return int(float64(rate) * latencyWarmUp.Seconds()) }

// How many Kafka transactions of one record are measured, and the time from one to the next: enough
// for the markers of the last to be written, as a broker otherwise makes the next one of the same
// id wait.
const (
	fewestBare = 40
	mostBare   = 400
	bareWarmUp = 50
	barePace   = 25 * time.Millisecond
)

// bare measures bare transactions on their own topic.
func (b *bench) bare(ctx context.Context) (_ Latency, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return Latency{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	b.progress("latency of a bare Kafka transaction")
	events, err := Bare(ctx, b.cfg, topic)
	if err != nil {
		return Latency{}, err
	}
	return load.LatencyOf(events), nil
}

// Bare measures Kafka transactions of one record on a topic, which nothing else may write to, from
// before the begin to the arrival at a read_committed consumer: the least that any relay could take.
// It returns the times in ascending order. Of the configuration it needs Brokers and KafkaOptions.
func Bare(ctx context.Context, cfg Config, topic string) ([]time.Duration, error) {
	cfg = cfg.WithDefaults()
	producer, err := newRawProducer(ctx, cfg, 1, topic)
	if err != nil {
		return nil, err
	}
	defer producer.close()
	consumer, err := load.Consumer(cfg.Brokers, topic, cfg.KafkaOptions...)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	events := load.NewEvents(bareWarmUp + min(mostBare, max(fewestBare, int(cfg.Duration/barePace))))
	group, working := errgroup.WithContext(ctx)
	produced := make(chan struct{})
	group.Go(func() error {
		defer close(produced)
		if err := bareTransactions(working, producer, events, cfg.Size); err != nil {
			return fmt.Errorf("bare transaction: %w", err)
		}
		return nil
	})
	group.Go(func() error { return events.Consume(working, consumer, produced, arrivalLimit) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if err := events.Complete(); err != nil {
		return nil, fmt.Errorf("bare transactions: %w", err)
	}
	return events.Since(events.Began, bareWarmUp), nil
}

func bareTransactions(ctx context.Context, producer *rawProducer, events *load.Events, size int) error {
	value := load.Payload(0, size)
	began := time.Now()
	for i := range events.Began {
		if err := pause(ctx, time.Until(began.Add(time.Duration(i)*barePace))); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(value, uint64(i))
		record := []kgo.Record{{Key: strconv.AppendInt(nil, int64(i%load.SteadyAggregates), 10), Value: value}}
		sent := time.Now()
		if err := producer.batchOf(ctx, producer.clients[0], record, 0, 1); err != nil {
			return err
		}
		if err := commit(ctx, producer.clients[0]); err != nil {
			return err
		}
		events.Sent(i, sent)
	}
	return nil
}
