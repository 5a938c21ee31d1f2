package load

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Consumer reads the committed records of a topic from its beginning.
func Consumer(brokers []string, topic string, options ...kgo.Opt) (*kgo.Client, error) {
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(100 * time.Millisecond),
	}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("create a consumer: %w", err)
	}
	return client, nil
}

// Consume reads records and notes when each arrived, until inserted is closed and all have, or for
// limit at most after that.
func (e *Events) Consume(ctx context.Context, client *kgo.Client, inserted <-chan struct{}, limit time.Duration) error {
	inserting, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-inserted:
			stop() // a poll that waits for more than was inserted
		case <-inserting.Done():
		}
	}()
	for inserting.Err() == nil {
		if err := e.poll(inserting, client); err != nil {
			return err
		}
	}
	late, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !e.all() && late.Err() == nil {
		if err := e.poll(late, client); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// Linger reads for d more, in which records may come again.
func (e *Events) Linger(ctx context.Context, client *kgo.Client, d time.Duration) error {
	lingering, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for lingering.Err() == nil {
		if err := e.poll(lingering, client); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// poll reads what there is, or waits for something until ctx ends, which is no error.
func (e *Events) poll(ctx context.Context, client *kgo.Client) error {
	fetches := client.PollFetches(ctx)
	now := time.Now()
	for record := range fetches.RecordsAll() {
		e.note(record, now)
	}
	if err := fetches.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("consume: %w", err)
	}
	return nil
}
