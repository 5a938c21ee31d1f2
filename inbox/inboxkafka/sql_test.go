package inboxkafka_test

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" of database/sql

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/inbox/inboxsql"
)

// openSQL is an inbox on the same database through database/sql.
func (s *service) openSQL() *inbox.Inbox[*sql.Tx] {
	s.t.Helper()
	db, err := sql.Open("pgx", s.pool.Config().ConnString())
	if err != nil {
		s.t.Fatal(err)
	}
	db.SetMaxOpenConns(8)
	s.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			s.t.Error(err)
		}
	})
	in, err := inboxsql.New(db, &inbox.Config{Consumer: "billing"})
	if err != nil {
		s.t.Fatal(err)
	}
	return in
}

// recordSQL writes the effect of a message.
func recordSQL(ctx context.Context, tx *sql.Tx, m inbox.Message) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO effects (msg, key) VALUES ($1, $2)", m.ID, string(m.Key))
	return err
}

// Each message is sent twice, and processes come and go.
func TestEffectsThroughDatabaseSQLOnceAndInOrder(t *testing.T) {
	for name, handler := range map[string]inboxkafka.Handler[*sql.Tx]{
		"one by one": inboxkafka.Handle(recordSQL),
		"in batches": inboxkafka.HandleBatch(func(ctx context.Context, tx *sql.Tx, messages []inbox.Message) error {
			for _, m := range messages {
				if err := recordSQL(ctx, tx, m); err != nil {
					return err
				}
			}
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			_, _ = consume(s, s.openSQL(), handler, inboxkafka.Config{}, 20*time.Millisecond)
			for round := range 3 {
				_, stop := consume(s, s.openSQL(), handler, inboxkafka.Config{}, 20*time.Millisecond)
				produce(s.brokers, twice(messages(round*200, 200, "a", "b", "c", "d", "e"))...)
				s.await("some effects", s.effects(int64(round*200+50)))
				stop()
			}
			s.await("all effects", s.effects(600))
			s.checkOrder()
		})
	}
}

// A message that fails is parked with its key behind it, one that ended its process is parked too,
// and both go through in order once somebody asks for the retry.
func TestParkingAndRetryThroughDatabaseSQL(t *testing.T) {
	s := newService(t)
	in := s.openSQL()
	before := inboxloop.New(in)
	for _, p := range []int32{0, 1} { // as a process leaves them that crashed
		if _, err := before.Open(t.Context(), "transfers", p); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := before.Start(t.Context(), []inbox.Message{{ID: "m-0004", Source: "bank"}}); err != nil {
			t.Fatal(err)
		}
	}
	produce(s.brokers, messages(0, 30, "a", "b", "c")...)
	var mended atomic.Bool
	handler := inboxkafka.Handle(func(ctx context.Context, tx *sql.Tx, m inbox.Message) error {
		if m.ID == "m-0006" && !mended.Load() {
			return errors.Join(recordSQL(ctx, tx, m), errors.New("no such account"))
		}
		return recordSQL(ctx, tx, m)
	})
	_, _ = consume(s, s.openSQL(), handler, inboxkafka.Config{Attempts: 3}, 20*time.Millisecond)
	// Key b from m-0004 on, and key a from m-0006 on.
	s.await("the parked ones", func() bool { return s.scalar("SELECT count(*) FROM inbox_parked") == 9+8 })
	s.await("the others", s.effects(30-17))
	for cause, id := range map[string]string{"crash": "m-0004", "attempts": "m-0006"} {
		if n := s.scalar("SELECT count(*) FROM inbox_parked WHERE cause = $1 AND msg_id = $2", cause, id); n != 1 {
			t.Errorf("%s is not parked with the cause %s", id, cause)
		}
	}
	mended.Store(true)
	s.exec("UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'test'")
	s.await("all effects", s.effects(30))
	s.await("the release of the keys", func() bool { return s.scalar("SELECT count(*) FROM inbox_parked_keys") == 0 })
	s.checkOrder()
}

// An effect that no database rolls back runs once, and a handler that hangs is cut off without the
// process.
func TestEffectsAndHangsThroughDatabaseSQL(t *testing.T) {
	s := newService(t)
	var sent atomic.Int64
	produce(s.brokers, twice(messages(0, 40, "a", "b", "c"))...)
	_, stop := consume(s, s.openSQL(), inboxkafka.AtMostOnce[*sql.Tx](func(context.Context, inbox.Message) error {
		sent.Add(1)
		return nil
	}), inboxkafka.Config{}, 20*time.Millisecond)
	s.await("all marks", func() bool {
		return s.scalar("SELECT count(*) FROM inbox") == 40 && s.scalar("SELECT count(*) FROM inbox_claims") == 0
	})
	stop()
	if n := sent.Load(); n != 40 {
		t.Errorf("%d effects of 40 messages", n)
	}
	var hung atomic.Bool
	_, _ = consume(s, s.openSQL(), inboxkafka.Handle(func(ctx context.Context, tx *sql.Tx, m inbox.Message) error {
		if m.ID == "m-0050" && !hung.Swap(true) {
			_, err := tx.ExecContext(ctx, "SELECT pg_sleep(600)")
			return err
		}
		return recordSQL(ctx, tx, m)
	}), inboxkafka.Config{Attempts: 3}, 20*time.Millisecond)
	produce(s.brokers, messages(40, 40, "a", "b", "c")...)
	s.await("a handler that hangs", hung.Load)
	s.exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND datname = current_database()")
	s.await("all effects", s.effects(40))
	s.checkOrder()
}
