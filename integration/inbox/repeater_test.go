package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

// repeater produces every committed record of topics once more: the same message, some time later,
// in any order.
type repeater struct {
	t        testing.TB
	client   *kgo.Client
	hold     int // how many records wait for their second time
	held     []*kgo.Record
	taken    atomic.Int64 // messages read for the first time
	stopping context.CancelFunc
	running  sync.WaitGroup
}

// isRepeated marks a record of a repeater.
const isRepeated = "repeated"

// startRepeater starts one that keeps up to hold records back.
func startRepeater(t testing.TB, bootstrap []string, hold int, topics ...string) *repeater {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &repeater{t: t, hold: hold, stopping: cancel, client: kit.KafkaClient(t, bootstrap, kgo.ConsumeTopics(topics...),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ProducerLinger(0))}
	r.running.Go(func() { r.run(ctx) })
	t.Cleanup(func() {
		cancel()
		r.running.Wait()
	})
	return r
}

func (r *repeater) run(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := r.client.PollFetches(ctx)
		for record := range fetches.RecordsAll() {
			r.take(record)
		}
		for len(r.held) > r.hold {
			r.repeat(rand.IntN(len(r.held)))
		}
	}
}

// take holds a record that was not repeated yet.
func (r *repeater) take(record *kgo.Record) {
	if kit.Header(record, isRepeated) == "" {
		r.held = append(r.held, record)
		r.taken.Add(1)
	}
}

// repeat produces one of the records that are held.
func (r *repeater) repeat(i int) {
	record := r.held[i]
	r.held[i] = r.held[len(r.held)-1]
	r.held = r.held[:len(r.held)-1]
	r.client.Produce(context.Background(), &kgo.Record{
		Topic: record.Topic, Key: record.Key, Value: record.Value,
		Headers: append(record.Headers[:len(record.Headers):len(record.Headers)], kgo.RecordHeader{Key: isRepeated, Value: []byte("yes")}),
	}, func(_ *kgo.Record, err error) {
		if err != nil {
			r.t.Errorf("repeat a record: %v", err)
		}
	})
}

// finish repeats everything that was not repeated yet, once it has read so many messages. Call it
// when no other process produces any more.
func (r *repeater) finish(messages int) {
	r.t.Helper()
	kit.Eventually(r.t, 2*time.Minute, fmt.Sprintf("the repeater has read %d messages", messages), func() bool {
		return r.taken.Load() >= int64(messages)
	})
	r.stopping()
	r.running.Wait()
	for len(r.held) > 0 {
		r.repeat(rand.IntN(len(r.held)))
	}
	if err := r.client.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}
