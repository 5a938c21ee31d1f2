package inbox

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/integration/kit"
)

// sender is a service that produces messages in Kafka transactions, as a relay does, and faster.
// Some it aborts: what was in them is produced again, under other ids.
type sender struct {
	t      testing.TB
	client *kgo.Client
	source string
	topic  string
	prefix string // of keys
	keys   int
	next   map[string]int64 // version of a key

	sent      deliveries
	committed int
	aborted   int

	choose   func() []string // the keys of the next transaction
	most     int             // start sends nothing more after so many messages; 0 for no end
	stopping context.CancelFunc
	running  sync.WaitGroup
}

// newSender makes a sender that sends nothing by itself.
func newSender(t testing.TB, bootstrap []string, topic, source string, keys int) *sender {
	t.Helper()
	s := &sender{
		t: t, source: source, topic: topic, prefix: source + "-", keys: keys, next: make(map[string]int64), sent: make(deliveries),
		client: kit.KafkaClient(t, bootstrap, kgo.TransactionalID(kit.UniqueName(t)), kgo.ProducerLinger(0)),
	}
	s.choose = func() []string { return s.random(1 + rand.IntN(40)) }
	return s
}

// start lets it send, with pauses between its transactions, until stop.
func (s *sender) start(pause time.Duration) *sender {
	ctx, cancel := context.WithCancel(context.Background())
	s.stopping = cancel
	s.running.Go(func() {
		for ctx.Err() == nil {
			if s.most == 0 || len(s.sent) < s.most {
				s.transaction(s.choose(), rand.IntN(5) > 0)
			}
			kit.Wait(ctx, time.Duration(rand.Int64N(int64(2*pause))))
		}
	})
	s.t.Cleanup(s.stop)
	return s
}

// stop ends it after its transaction. What it has sent may be read then.
func (s *sender) stop() {
	s.stopping()
	s.running.Wait()
}

// random are keys, one a message.
func (s *sender) random(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = s.key(rand.IntN(s.keys))
	}
	return keys
}

func (s *sender) key(n int) string { return s.prefix + strconv.Itoa(n) }

// transaction produces the next message of each key named, a key as often as it is named.
func (s *sender) transaction(keys []string, commit bool) {
	next, sent := make(map[string]int64), make(deliveries, len(keys))
	records := make([]*kgo.Record, len(keys))
	for i, key := range keys {
		if next[key] == 0 {
			next[key] = s.next[key]
		}
		next[key]++
		id := s.newID()
		sent[identity{s.source, id}] = delivery{key, next[key]}
		records[i] = &kgo.Record{
			Topic: s.topic, Key: []byte(key), Value: strconv.AppendInt(nil, next[key], 10),
			Headers: []kgo.RecordHeader{{Key: "msg_id", Value: []byte(id)}, {Key: "source", Value: []byte(s.source)}},
		}
	}
	if err := s.produce(records, commit); err != nil {
		s.t.Error(err)
		return
	}
	if !commit {
		s.aborted++
		return
	}
	s.committed++
	for key, version := range next {
		s.next[key] = version
	}
	for id, d := range sent {
		s.sent[id] = d
	}
}

// newID is a UUIDv7 for most messages, and another text for some.
func (s *sender) newID() string {
	switch id := uuid.Must(uuid.NewV7()); rand.IntN(8) {
	case 0:
		return "order " + id.String()[20:] + " created"
	case 1:
		return uuid.NewString() // version 4
	default:
		return id.String()
	}
}

func (s *sender) produce(records []*kgo.Record, commit bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.client.BeginTransaction(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := s.client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	if err := s.client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return fmt.Errorf("end a transaction: %w", err)
	}
	return nil
}
