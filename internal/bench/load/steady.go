package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

const (
	// Writers is how many connections insert at a steady rate.
	Writers = 16
	// SteadyAggregates is how many keys their events have: a multiple of the writers, so that each key
	// has one writer, and its events an order.
	SteadyAggregates = 64 * Writers
)

// Steady is inserts at a steady rate, one event a transaction.
type Steady struct {
	// URL is that of the database.
	URL string
	// Topic is that which the rows name.
	Topic string
	// Rate is how many are inserted a second, as far as the server lets them.
	Rate int
	// Size is how many bytes a payload has, at least 8.
	Size int
	// First is the number of the first event; they end with the last for which there is room. Defaults
	// to 0.
	First int
	// Stop ends the inserts when it is closed. Defaults to never.
	Stop <-chan struct{}
}

// Measure inserts events and reads them with the consumer, until all that were committed have
// arrived, or for limit at most after the last insert. Call Events.Complete to learn which.
func (s Steady) Measure(ctx context.Context, events *Events, consumer *kgo.Client, limit time.Duration) error {
	group, working := errgroup.WithContext(ctx)
	inserted := make(chan struct{})
	group.Go(func() error {
		defer close(inserted)
		return s.Insert(working, events)
	})
	group.Go(func() error { return events.Consume(working, consumer, inserted, limit) })
	return group.Wait()
}

// Insert inserts the events, each at its time or as soon after it as the server lets it.
func (s Steady) Insert(ctx context.Context, events *Events) error {
	connections, err := Connect(ctx, s.URL, Writers)
	if err != nil {
		return err
	}
	defer CloseAll(connections)
	group, working := errgroup.WithContext(ctx)
	began := time.Now()
	for number, conn := range connections {
		group.Go(func() error { return s.writer(working, conn, number, began, events) })
	}
	return group.Wait()
}

// writer inserts every Writers-th event.
func (s Steady) writer(ctx context.Context, conn *pgx.Conn, number int, began time.Time, events *Events) error {
	const insert = "INSERT INTO outbox (aggregate_type, aggregate_id, type, topic, payload) VALUES ('" +
		AggregateType + "', $1, '" + EventType + "', $2, $3) RETURNING id"
	value := Payload(0, s.Size)
	for i := number; s.First+i < len(events.Began); i += Writers {
		select {
		case <-time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(s.Rate)))):
		case <-s.Stop:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		event := s.First + i
		binary.BigEndian.PutUint64(value, uint64(event))
		sent := time.Now()
		err := conn.QueryRow(ctx, insert, strconv.Itoa(event%SteadyAggregates), s.Topic, value).Scan(&events.IDs[event])
		if err != nil {
			return fmt.Errorf("insert an event: %w", err)
		}
		events.Sent(event, sent)
	}
	return nil
}

// Connect opens n connections to a database.
func Connect(ctx context.Context, url string, n int) ([]*pgx.Conn, error) {
	var all []*pgx.Conn
	for range n {
		conn, err := pgx.Connect(ctx, url)
		if err != nil {
			CloseAll(all)
			return nil, fmt.Errorf("connect to Postgres: %w", err)
		}
		all = append(all, conn)
	}
	return all, nil
}

// CloseAll closes connections on which nothing was left undone.
func CloseAll(connections []*pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, conn := range connections {
		_ = conn.Close(ctx) // nothing depends on how a session ends
	}
}
