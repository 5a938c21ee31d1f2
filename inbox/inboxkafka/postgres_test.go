package inboxkafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/outbox-relay/relay/inbox"
	"github.com/outbox-relay/relay/inbox/inboxkafka"
	"github.com/outbox-relay/relay/inbox/inboxloop"
	"github.com/outbox-relay/relay/internal/harness/testpg"
)

const patience = 45 * time.Second

// service is a database and a broker, and consumers on them.
type service struct {
	t       *testing.T
	pool    *pgxpool.Pool
	brokers []string
}

func newService(t *testing.T) *service {
	t.Helper()
	url, brokers := start()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return &service{t, pool, brokers}
}

// record writes the effect of a message.
func record(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
	_, err := tx.Exec(ctx, "INSERT INTO effects (msg, key) VALUES ($1, $2)", m.ID, string(m.Key))
	return err
}

// run runs a consumer until stop is called, which waits for its end.
func (s *service) run(handler inboxkafka.Handler[pgx.Tx], config inboxkafka.Config) (c *inboxkafka.Consumer, stop func()) {
	s.t.Helper()
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.runOn(in, handler, config, 20*time.Millisecond)
}

// runOn is run on an inbox, with a commit interval.
func (s *service) runOn(
	in *inbox.Inbox[pgx.Tx], handler inboxkafka.Handler[pgx.Tx], config inboxkafka.Config, commit time.Duration,
) (c *inboxkafka.Consumer, stop func()) {
	s.t.Helper()
	return consume(s, in, handler, config, commit)
}

// consume is runOn for any type of transaction.
func consume[TTx any](
	s *service, in *inbox.Inbox[TTx], handler inboxkafka.Handler[TTx], config inboxkafka.Config, commit time.Duration,
) (c *inboxkafka.Consumer, stop func()) {
	s.t.Helper()
	config.Brokers, config.Topics = s.brokers, []string{"transfers"}
	config.CommitInterval, config.RetryInterval = commit, 20*time.Millisecond
	config.BackoffMin, config.BackoffMax = 5*time.Millisecond, 50*time.Millisecond
	config.Options = []kgo.Opt{kgo.FetchMaxWait(50 * time.Millisecond), kgo.HeartbeatInterval(50 * time.Millisecond)}
	c, err := inboxkafka.New(in, handler, &config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	}
	s.t.Cleanup(stop)
	return c, stop
}

// scalar returns one number.
func (s *service) scalar(query string, args ...any) (n int64) {
	s.t.Helper()
	if err := s.pool.QueryRow(context.Background(), query, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *service) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.pool.Exec(context.Background(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *service) await(what string, condition func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !condition() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *service) effects(n int64) func() bool {
	return func() bool { return s.scalar("SELECT count(*) FROM effects") >= n }
}

// messages returns n records of the keys in turn, each of them twice and the copies a little apart.
func messages(from, n int, keys ...string) (records []*kgo.Record) {
	for i := from; i < from+n; i++ {
		r := transfer(fmt.Sprintf("m-%04d", i), keys[i%len(keys)], "", 0)
		records = append(records, r)
	}
	return records
}

func twice(records []*kgo.Record) (both []*kgo.Record) {
	for n, r := range records {
		both = append(both, r)
		if n >= 7 {
			again := *records[n-7]
			both = append(both, &again)
		}
	}
	return both
}

// checkOrder fails if a message had its effect twice, or not in the order of its key.
func (s *service) checkOrder() {
	s.t.Helper()
	if n := s.scalar("SELECT count(*) - count(DISTINCT msg) FROM effects"); n != 0 {
		s.t.Errorf("%d effects twice", n)
	}
	inverted := s.scalar(`SELECT count(*) FROM (SELECT msg < lag(msg) OVER (PARTITION BY key ORDER BY id) AS inverted FROM effects) AS e WHERE inverted`)
	if inverted != 0 {
		s.t.Errorf("%d effects out of order", inverted)
	}
}

// Each message is sent twice, and processes come and go.
func TestEffectsInPostgresOnceAndInOrder(t *testing.T) {
	for name, handler := range map[string]inboxkafka.Handler[pgx.Tx]{
		"one by one": inboxkafka.Handle(record),
		"in batches": inboxkafka.HandleBatch(func(ctx context.Context, tx pgx.Tx, messages []inbox.Message) error {
			for _, m := range messages {
				if err := record(ctx, tx, m); err != nil {
					return err
				}
			}
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			_, _ = s.run(handler, inboxkafka.Config{})
			for round := range 3 {
				_, stop := s.run(handler, inboxkafka.Config{})
				produce(s.brokers, twice(messages(round*200, 200, "a", "b", "c", "d", "e"))...)
				s.await("some effects", s.effects(int64(round*200+50)))
				stop()
			}
			s.await("all effects", s.effects(600))
			s.checkOrder()
		})
	}
}

// A message that another process was handling when it crashed is parked once it has ended the
// process often enough; its key waits behind it, and a retry that somebody asks for goes through in
// order.
func TestCrashPoisonAndRetryInPostgres(t *testing.T) {
	s := newService(t)
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	first := inboxloop.New(in)
	records := messages(0, 30, "a", "b", "c")
	produce(s.brokers, records...)
	// Three processes that crashed, as the tables tell of them.
	for _, p := range []int32{0, 1} {
		if _, err := first.Open(t.Context(), "transfers", p); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if _, err := first.Start(t.Context(), []inbox.Message{{ID: "m-0004", Source: "bank"}}); err != nil {
			t.Fatal(err)
		}
	}
	var handled atomic.Int64
	handler := inboxkafka.Handle(func(ctx context.Context, tx pgx.Tx, m inbox.Message) error {
		if m.ID == "m-0004" {
			handled.Add(1)
		}
		return record(ctx, tx, m)
	})
	_, _ = s.run(handler, inboxkafka.Config{})
	parked := func(n int64) func() bool {
		return func() bool { return s.scalar("SELECT count(*) FROM inbox_parked") == n }
	}
	s.await("the parked ones", parked(9))
	s.await("the others", s.effects(21))
	if handled.Load() != 0 {
		t.Error("the message that ended the process was begun again")
	}
	if n := s.scalar("SELECT count(*) FROM inbox_parked WHERE cause = 'crash' AND msg_id = 'm-0004'"); n != 1 {
		t.Errorf("%d messages are parked for a crash, want m-0004", n)
	}
	s.await("no records of starts", func() bool { return s.scalar("SELECT count(*) FROM inbox_started") == 0 })
	s.exec("UPDATE inbox_parked_keys SET requested_at = now(), requested_by = 'test'")
	produce(s.brokers, messages(30, 30, "a", "b", "c")...)
	s.await("all effects", s.effects(60))
	s.await("the release of the key", func() bool { return s.scalar("SELECT count(*) FROM inbox_parked_keys") == 0 })
	s.checkOrder()
}

// The database becomes unavailable and comes back. Nothing is lost or parked, and the process
// stays.
func TestPostgresGoesAway(t *testing.T) {
	s := newService(t)
	var failed atomic.Int64
	c, _ := s.run(inboxkafka.Handle(record), inboxkafka.Config{Attempts: 2, MaxRecords: 50, Hooks: inboxkafka.Hooks{
		Failed: func(context.Context, inbox.Message, int, time.Duration, error) { failed.Add(1) },
	}})
	produce(s.brokers, messages(0, 50, "a", "b", "c")...)
	s.await("the first effects", s.effects(50))
	name := s.pool.Config().ConnConfig.Database
	admin := s.admin()
	for _, statement := range []string{
		"ALTER DATABASE " + name + " ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + name + "'",
	} {
		if _, err := admin.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	produce(s.brokers, messages(50, 200, "a", "b", "c")...)
	s.await("the pause", func() bool { return !c.Stats().PausedSince.IsZero() })
	if held := c.Stats().Held; held > 50 {
		t.Errorf("%d records are held", held)
	}
	if _, err := admin.Exec(t.Context(), "ALTER DATABASE "+name+" ALLOW_CONNECTIONS true"); err != nil {
		t.Fatal(err)
	}
	s.await("the resumption", func() bool { return c.Stats().PausedSince.IsZero() })
	s.await("all effects", s.effects(250))
	s.checkOrder()
	if n := s.scalar("SELECT count(*) FROM inbox_parked"); n != 0 || failed.Load() != 0 {
		t.Errorf("%d parked, %d failures", n, failed.Load())
	}
}

// admin returns a connection to the server beside the database.
func (s *service) admin() *pgx.Conn {
	s.t.Helper()
	return testpg.Connect(s.t, testpg.URL(s.t))
}

// A message without a mark that failed for good keeps its headers and its place.
func TestParkedWithoutIdentityInPostgres(t *testing.T) {
	s := newService(t)
	bad := transfer("", "a", "", 0)
	bad.Headers = bad.Headers[1:]
	produce(s.brokers, bad)
	_, _ = s.run(inboxkafka.Handle(record), inboxkafka.Config{})
	s.await("the parked one", func() bool { return s.scalar("SELECT count(*) FROM inbox_parked WHERE cause = 'identity'") == 1 })
	var source, id string
	var names [][]byte
	err := s.pool.QueryRow(t.Context(), "SELECT source, msg_id, header_names FROM inbox_parked").Scan(&source, &id, &names)
	if err != nil {
		t.Fatal(err)
	}
	if (source != "transfers:0" && source != "transfers:1") || !strings.HasPrefix(id, "0@") || !slices.EqualFunc(names, []string{"source"}, func(b []byte, s string) bool { return string(b) == s }) {
		t.Errorf("parked as %s of %s with headers %q", id, source, names)
	}
}

func TestAConsumerWithoutItsTablesDoesNotBegin(t *testing.T) {
	s := newService(t)
	if _, err := s.pool.Exec(t.Context(), "ALTER TABLE inbox_claims RENAME TO elsewhere"); err != nil {
		t.Fatal(err)
	}
	in, err := inbox.New(s.pool, &inbox.Config{Consumer: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := inboxkafka.New(in, inboxkafka.Handle(record), &inboxkafka.Config{Brokers: s.brokers, Topics: []string{"transfers"}})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context())
	if !errors.Is(err, inbox.ErrSchema) || !strings.Contains(err.Error(), "inbox_claims") {
		t.Fatalf("Run gave %v", err)
	}
}
