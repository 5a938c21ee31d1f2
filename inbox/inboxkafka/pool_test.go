package inboxkafka_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
)

// pooled is an inbox on a pool of so many connections.
func (s *service) pooled(connections int32) *inbox.Inbox[pgx.Tx] {
	s.t.Helper()
	config := s.pool.Config()
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(s.t.Context(), config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(pool.Close)
	in, err := inbox.New(pool, &inbox.Config{Consumer: "billing", HandlerTimeout: 10 * time.Minute})
	if err != nil {
		s.t.Fatal(err)
	}
	return in
}

// Handlers that take long hold all the connections that they can get; what is done is committed all
// the same.
func TestAPoolSmallerThanWorkersStillCommits(t *testing.T) {
	s := newService(t)
	letGo := make(chan struct{})
	var done atomic.Int64
	c, stop := s.runOn(s.pooled(3), inboxkafka.Handle(func(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
		if done.Add(1) > 20 {
			<-letGo
		}
		return record(ctx, tx, m)
	}), inboxkafka.Config{Workers: 16, DrainTimeout: time.Minute}, 300*time.Millisecond)
	produce(s.brokers, messages(0, 60, "a", "b", "c", "d", "e", "f", "g", "h")...)
	s.await("some effects", s.effects(20))
	s.await("handlers that take long", func() bool { return done.Load() >= 22 })
	s.await("offsets while handlers take long", func() bool {
		known, behind := 0, 0 // a partition whose first message waits has nothing to commit
		for _, p := range c.Stats().Partitions {
			if p.Watermark > 0 {
				known++
				if p.Committed != p.Watermark {
					behind++
				}
			}
		}
		return known > 0 && behind == 0
	})
	close(letGo)
	s.await("all effects", s.effects(60))
	stop()
	s.checkOrder()
}

func TestAPoolOfOneConnectionIsRefused(t *testing.T) {
	s := newService(t)
	_, err := inboxkafka.New(s.pooled(1), inboxkafka.Handle(record), &inboxkafka.Config{Brokers: s.brokers, Topics: []string{"transfers"}})
	if err == nil || !strings.Contains(err.Error(), "pool_max_conns") {
		t.Fatal(err)
	}
}
