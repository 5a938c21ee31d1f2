// Command poller is the outbox relay that people write themselves. In a loop: select rows that are
// not marked FOR UPDATE SKIP LOCKED, publish them, mark them, commit. Several may run at once.
//
// It is written as well as that design allows: an idempotent producer, all replicas acknowledge, the
// records of a batch go out at once, and marks are one statement a batch. What it cannot do is
// measured in integration/bench/peers: a crash between publishing and marking doubles a batch, and
// instances beside each other change the order of an aggregate.
//
// The table has a column published_at and an index on the rows without it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	p := poller{}
	err := p.run(ctx)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "poller:", err)
		os.Exit(1)
	}
}

// pending are the oldest rows that no other instance holds.
const pending = `SELECT id, msg_id::text, aggregate_type, aggregate_id, type, topic, payload, created_at FROM outbox
WHERE published_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED`

type poller struct {
	conn   *pgx.Conn
	client *kgo.Client
	batch  int
	pause  time.Duration
}

func (p *poller) run(ctx context.Context) (err error) {
	if p.batch, err = strconv.Atoi(os.Getenv("POLLER_BATCH")); err != nil {
		return fmt.Errorf("POLLER_BATCH: %w", err)
	}
	if p.pause, err = time.ParseDuration(os.Getenv("POLLER_PAUSE")); err != nil {
		return fmt.Errorf("POLLER_PAUSE: %w", err)
	}
	if p.conn, err = pgx.Connect(ctx, os.Getenv("POLLER_DATABASE_URL")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.conn.Close(context.WithoutCancel(ctx))) }()
	p.client, err = kgo.NewClient(
		kgo.SeedBrokers(strings.Split(os.Getenv("POLLER_BROKERS"), ",")...), kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(p.batch+1), kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer p.client.Close()
	fmt.Println("poller: running")
	for {
		n, err := p.one(ctx)
		if err != nil {
			return err
		}
		if n == p.batch {
			continue
		}
		select {
		case <-time.After(p.pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// one publishes a batch and returns how many rows it had.
func (p *poller) one(ctx context.Context) (n int, err error) {
	err = pgx.BeginFunc(ctx, p.conn, func(tx pgx.Tx) error {
		ids, records, err := p.read(ctx, tx)
		if err != nil || len(ids) == 0 {
			return err
		}
		n = len(ids)
		if err := p.publish(ctx, records); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE outbox SET published_at = now() WHERE id = ANY($1)", ids)
		return err
	})
	return n, err
}

func (p *poller) read(ctx context.Context, tx pgx.Tx) (ids []int64, records []*kgo.Record, err error) {
	rows, err := tx.Query(ctx, pending, p.batch)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		var msgID, aggregateType, key, kind string
		var created time.Time
		r := &kgo.Record{}
		if err := rows.Scan(&id, &msgID, &aggregateType, &key, &kind, &r.Topic, &r.Value, &created); err != nil {
			return nil, nil, err
		}
		r.Key = []byte(key)
		r.Headers = []kgo.RecordHeader{
			{Key: "msg_id", Value: []byte(msgID)}, {Key: "type", Value: []byte(kind)},
			{Key: "aggregate_type", Value: []byte(aggregateType)},
			{Key: "created_at", Value: created.UTC().AppendFormat(nil, time.RFC3339Nano)},
		}
		ids, records = append(ids, id), append(records, r)
	}
	return ids, records, rows.Err()
}

// publish returns once every record is acknowledged.
func (p *poller) publish(ctx context.Context, records []*kgo.Record) error {
	var mu sync.Mutex
	var failed error
	for _, r := range records {
		p.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, err)
			}
		})
	}
	if err := p.client.Flush(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}
