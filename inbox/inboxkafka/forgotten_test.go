package inboxkafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/internal/sandbox"
	migrations "github.com/outbox-relay/relay/sql"
)

// forgetful is its own server that puts a commit on disk only if somebody waits for that.
func forgetful(t *testing.T) *sandbox.Postgres {
	t.Helper()
	server, err := sandbox.StartPostgres(t.Context(), sandbox.PostgresOptions{Parameters: map[string]string{
		"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off",
		"bgwriter_lru_maxpages": "0", "fsync": "off", // what is written outlives the processes
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	return server
}

// forgetfulService is a consumer's database on that server, and a broker.
func forgetfulService(t *testing.T, server *sandbox.Postgres, name string) *service {
	t.Helper()
	url, err := server.CreateDatabase(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	s := &service{t, pool, startBroker()}
	for _, m := range migrations.Inbox() {
		if _, err := pool.Exec(t.Context(), m.Up, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
	}
	s.exec("CREATE TABLE effects (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, msg text NOT NULL, key text)")
	s.exec("CHECKPOINT")
	return s
}

// A crash takes asynchronous commits away, effects and marks together, and the consumer lives on:
// no offset may pass what was forgotten, and no later message of a key may be handled before it.
func TestWhatACrashOfPostgresForgetsIsHandledAgainInOrder(t *testing.T) {
	server := forgetful(t)
	crash := func(s *service) {
		if err := errors.Join(server.Kill(), server.Restart(s.t.Context())); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		config inboxkafka.Config
		later  int // messages that come after the crash
		crash  func(s *service)
	}{
		{"of the server", inboxkafka.Config{}, 100, crash},
		{"of the server in the end", inboxkafka.Config{}, 0, crash}, // only the commit of offsets can notice
		// Postgres ends all sessions then, and recovers, while the time at which the server started
		// stays the same.
		{"of one process", inboxkafka.Config{Batch: 20}, 100, func(s *service) {
			if err := syscall.Kill(int(s.scalar("SELECT pg_backend_pid()")), syscall.SIGKILL); err != nil {
				s.t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := forgetfulService(t, server, strings.ReplaceAll(test.name, " ", "_"))
			committed := make(commits, 1000)
			test.config.Hooks.Committed = committed.told
			stop := s.runEvery(time.Second, test.config)
			produce(s.brokers, messages(0, 100, "a", "b", "c", "d", "e")...)
			s.await("the first effects", s.effects(100))
			committed.await(t)
			before := s.forgettable(committed)
			test.crash(s)
			produce(s.brokers, messages(before, test.later, "a", "b", "c", "d", "e")...)
			s.await("the last effects", func() bool {
				var last int
				err := s.pool.QueryRow(context.Background(), "SELECT count(*) FROM effects WHERE msg >= $1",
					fmt.Sprintf("m-%04d", before)).Scan(&last)
				return err == nil && last == test.later
			})
			committed.drain()
			committed.await(t)
			stop()
			s.checkOrder()
			if n := s.scalar("SELECT count(*) FROM effects"); n != int64(before+test.later) {
				t.Errorf("%d effects are there after the offsets were committed, want %d", n, before+test.later)
			}
			if n := s.scalar("SELECT count(*) FROM inbox_parked"); n != 0 {
				t.Errorf("%d messages are parked", n)
			}
		})
	}
}

// forgettable produces messages behind the first hundred until some have had their effect and no
// offset was committed since, so that a crash takes them away. It returns how many there are.
func (s *service) forgettable(committed commits) (all int) {
	s.t.Helper()
	all = 100
	for range 20 {
		committed.drain()
		produce(s.brokers, messages(all, 100, "a", "b", "c", "d", "e")...)
		all += 100
		s.await("the effects to forget", s.effects(int64(all)))
		if len(committed) == 0 {
			return all
		}
	}
	s.t.Fatal("each time an offset was committed before the effects could be forgotten")
	return 0
}

// commits are told of each offset that was committed.
type commits chan int64

func (c commits) told(_ context.Context, _ string, _ int32, offset int64, err error) {
	if err == nil {
		select {
		case c <- offset:
		default:
		}
	}
}

func (c commits) await(t *testing.T) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("no offset is committed")
	}
}

func (c commits) drain() {
	for len(c) > 0 {
		<-c
	}
}

// runEvery is run with a commit interval.
func (s *service) runEvery(interval time.Duration, config inboxkafka.Config) (stop func()) {
	s.t.Helper()
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		s.t.Fatal(err)
	}
	_, stop = s.runOn(in, inboxkafka.Handle(record), config, interval)
	return stop
}
