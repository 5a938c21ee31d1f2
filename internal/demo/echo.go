package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Which messages are sent again on purpose, by the version of their account: these at once, and
// those once more at the end.
const (
	echoOnceEvery = 20
	echoLateEvery = 100
)

// headerEcho is on what was sent again, for those who count; consumers do not look at it.
const headerEcho = "sent_again"

// echo is a producer that is not the relay, and sends messages again straight to the topic, as one
// does that never learned whether its first try arrived: the same partition, key, value and
// headers, msg_id and source among them.
type echo struct {
	client *kgo.Client

	mu   sync.Mutex
	late []*kgo.Record
	sent int
	err  error
}

func newEcho(brokers []string) (*echo, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ClientID("demo-echo"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, fmt.Errorf("create the producer of duplicates: %w", err)
	}
	return &echo{client: client}, nil
}

// isEcho reports whether a record was sent again on purpose.
func isEcho(r *kgo.Record) bool {
	return slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool { return h.Key == headerEcho })
}

// see is shown every message that was read the first time.
func (e *echo) see(ctx context.Context, r *kgo.Record, version int64) {
	if version%echoOnceEvery == 0 {
		e.send(ctx, again(r))
	}
	if version%echoLateEvery == 0 {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.late = append(e.late, again(r))
	}
}

func again(r *kgo.Record) *kgo.Record {
	headers := append(slices.Clone(r.Headers), kgo.RecordHeader{Key: headerEcho, Value: []byte("yes")})
	return &kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: headers}
}

func (e *echo) send(ctx context.Context, r *kgo.Record) {
	e.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sent++
		e.err = errors.Join(e.err, err)
	})
}

// finish sends the late ones, and returns how many were sent in all once every one has been
// acknowledged.
func (e *echo) finish(ctx context.Context) (sent int, err error) {
	e.mu.Lock()
	late := e.late
	e.mu.Unlock()
	for _, r := range late {
		e.send(ctx, r)
	}
	if err := e.client.Flush(ctx); err != nil {
		return 0, fmt.Errorf("send duplicates: %w", err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return 0, fmt.Errorf("send duplicates: %w", e.err)
	}
	return e.sent, nil
}

func (e *echo) close() { e.client.Close() }
