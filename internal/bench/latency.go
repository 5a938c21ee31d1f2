package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	// latencyWriters is how many connections insert at a steady rate.
	latencyWriters = 16
	// latencyWarmUp is how long inserts go on before they count.
	latencyWarmUp = 3 * time.Second
	// arrivalLimit is how long events may take to arrive after the last insert.
	arrivalLimit = 30 * time.Second
	// latencyAggregates is how many keys the events have.
	latencyAggregates = 1000
)

// times are when events were committed and when they arrived, by their number.
type times struct {
	committed, arrived []time.Time
}

func newTimes(n int) *times {
	return &times{make([]time.Time, n), make([]time.Time, n)}
}

// latency of the events from number skip on.
func (t *times) latency(skip int) Latency {
	all := make([]time.Duration, 0, len(t.arrived))
	for i := skip; i < len(t.arrived); i++ {
		all = append(all, t.arrived[i].Sub(t.committed[i]))
	}
	slices.Sort(all)
	at := func(p float64) float64 { return milliseconds(all[int(p*float64(len(all)-1))]) }
	return Latency{P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

// steady inserts events, one a transaction, at the rate, while a relay runs, and measures from the
// return of the commit to the arrival at a read_committed consumer.
func (b *bench) steady(ctx context.Context, p *place, rate int) (_ Rate, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return Rate{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	n := int(float64(rate) * (b.cfg.Duration + latencyWarmUp).Seconds())
	skip := int(float64(rate) * latencyWarmUp.Seconds())
	consumer, err := b.consumer(topic)
	if err != nil {
		return Rate{}, err
	}
	defer consumer.Close()
	connections, err := connections(ctx, p.url, latencyWriters)
	if err != nil {
		return Rate{}, err
	}
	defer closeAll(connections)
	t := newTimes(n)
	b.progress("latency at %s inserts/s: %.0f s", grouped(rate), (b.cfg.Duration + latencyWarmUp).Seconds())
	group, working := errgroup.WithContext(ctx)
	began := time.Now()
	for w, conn := range connections {
		group.Go(func() error {
			w := steadyWriter{conn: conn, number: w, began: began, rate: rate, topic: topic, size: b.cfg.Size}
			return w.insert(working, t.committed)
		})
	}
	group.Go(func() error {
		return arrivals(working, consumer, t.arrived, b.cfg.Duration+latencyWarmUp+arrivalLimit)
	})
	if err := group.Wait(); err != nil {
		return Rate{}, err
	}
	last := slices.MaxFunc(t.committed, time.Time.Compare)
	return Rate{
		Rate: rate, Achieved: round(float64(n)/last.Sub(began).Seconds(), 0), Events: n - skip, Latency: t.latency(skip),
	}, nil
}

// steadyWriter inserts every latencyWriters-th event.
type steadyWriter struct {
	conn   *pgx.Conn
	number int
	began  time.Time
	rate   int
	topic  string
	size   int
}

// insert inserts the events, each at its time or as soon after it as the server lets it.
func (w steadyWriter) insert(ctx context.Context, committed []time.Time) error {
	const insert = "INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('" +
		aggregateType + "', $1, '" + eventType + "', $2, $3)"
	value := payload(0, w.size)
	for i := w.number; i < len(committed); i += latencyWriters {
		if err := pause(ctx, time.Until(w.began.Add(time.Duration(i)*time.Second/time.Duration(w.rate)))); err != nil {
			return err
		}
		binary.BigEndian.PutUint64(value, uint64(i))
		if _, err := w.conn.Exec(ctx, insert, strconv.Itoa(i%latencyAggregates), w.topic, value); err != nil {
			return fmt.Errorf("insert an event: %w", err)
		}
		committed[i] = time.Now()
	}
	return nil
}

func (b *bench) consumer(topic string) (*kgo.Client, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(b.cfg.Brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100 * time.Millisecond),
	}, b.cfg.KafkaOptions...)...)
	if err != nil {
		return nil, fmt.Errorf("create a consumer: %w", err)
	}
	return client, nil
}

// arrivals reads records and notes when each arrived, until all have.
func arrivals(ctx context.Context, client *kgo.Client, arrived []time.Time, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for count := 0; count < len(arrived); {
		fetches := client.PollFetches(ctx)
		now := time.Now()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%d of %d events arrived within %v", count, len(arrived), limit)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("consume: %w", err)
		}
		for record := range fetches.RecordsAll() {
			number := binary.BigEndian.Uint64(record.Value)
			if number >= uint64(len(arrived)) || !arrived[number].IsZero() {
				return fmt.Errorf("event %d arrived twice, or was never written", number)
			}
			arrived[number] = now
			count++
		}
	}
	return nil
}

// How many Kafka transactions of one record are measured, and the time from one to the next: enough
// for the markers of the last to be written, as a broker otherwise makes the next one of the same
// id wait.
const (
	fewestBare = 40
	mostBare   = 400
	bareWarmUp = 50
	barePace   = 25 * time.Millisecond
)

// bare measures Kafka transactions of one record on their own topic, from before the begin to the
// arrival at a read_committed consumer: the least that any relay could take.
func (b *bench) bare(ctx context.Context) (_ Latency, err error) {
	topic, remove, err := b.site.newTopic(ctx, b.cfg.Partitions)
	if err != nil {
		return Latency{}, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	producer, err := newRawProducer(ctx, b.cfg, 1, topic)
	if err != nil {
		return Latency{}, err
	}
	defer producer.close()
	consumer, err := b.consumer(topic)
	if err != nil {
		return Latency{}, err
	}
	defer consumer.Close()
	b.progress("latency of a bare Kafka transaction")
	n := bareWarmUp + min(mostBare, max(fewestBare, int(b.cfg.Duration/barePace)))
	t := newTimes(n)
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error {
		value := payload(0, b.cfg.Size)
		began := time.Now()
		for i := range t.committed {
			if err := pause(working, time.Until(began.Add(time.Duration(i)*barePace))); err != nil {
				return err
			}
			binary.BigEndian.PutUint64(value, uint64(i))
			t.committed[i] = time.Now()
			record := []kgo.Record{{Key: strconv.AppendInt(nil, int64(i%latencyAggregates), 10), Value: value}}
			if err := producer.batchOf(working, producer.clients[0], record, 0, 1); err != nil {
				return fmt.Errorf("bare transaction: %w", err)
			}
			if err := commit(working, producer.clients[0]); err != nil {
				return fmt.Errorf("bare transaction: %w", err)
			}
		}
		return nil
	})
	group.Go(func() error {
		return arrivals(working, consumer, t.arrived, time.Duration(n)*barePace+arrivalLimit)
	})
	if err := group.Wait(); err != nil {
		return Latency{}, err
	}
	return t.latency(bareWarmUp), nil
}

func connections(ctx context.Context, url string, n int) ([]*pgx.Conn, error) {
	var all []*pgx.Conn
	for range n {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
		all = append(all, conn)
	}
	return all, nil
}

func closeAll(connections []*pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, conn := range connections {
		_ = conn.Close(ctx) // nothing was left undone on it
	}
}
